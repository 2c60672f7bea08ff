"""The web app: what it computes (`service`), its user interface (`ui`) and its HTML fragments (`html`)."""
