"""Similarity of texts: pairs, matrices and nearest neighbours."""
