from conjure.cli import main

main()
