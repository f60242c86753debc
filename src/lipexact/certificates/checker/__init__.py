"""The checker of certificates: exact arithmetic only, without a solver and without the search.

``check`` walks through the tree of a proof, ``verifier`` has its steps, ``cell`` the states of
gates, ``domain`` and ``symmetric_sets`` the sets that a certificate is about, ``dyadic`` the
arithmetic, and ``reading`` what refuses malformed numbers.
"""
