"""What the columns of ``rlscape diff`` mean; apart from the rest, so that ``--help`` needs no torch."""

COLUMNS: dict[str, str] = {
    "sparsity": "share of entries that are equal in bf16: |w+ - w0| <= 1e-3 max(|w0|, |w+|) on bf16 values",
    "isotropic_sparsity": "the same for an isotropic Gaussian update of this norm, given the base's magnitudes",
    "sparsity_bitwise": "share whose bf16 bits are equal (+0 and -0 differ)",
    "x": "RMS of the update / (c RMS of W0), c = 1/355: in typical half-steps of bf16; of a fine-tuned checkpoint that "
    "is stored in bf16, the x before rounding that an isotropic update would have had",
    "relative_norm": "|dW|_F / |W0|_F, as stored; no NSS of all singular values exceeds it (Mirsky)",
    "overlap_principal": "share of the changed entries among the principal weights: the alpha largest of |W0^(k)|",
    "overlap_low": "share of the changed entries among the alpha smallest of |W0|",
    "overlap_principal_not_low": "share of the changed entries among the principal but not the smallest",
    "..._chance": "overlap if changes fell anywhere: the mask's density",
    "..._binned": "overlap if changes are permuted among weights of equal bf16 magnitude (low, high: 95%); nothing to "
    "test for overlap_low, which is a matter of magnitude alone",
    "..._isotropic": "overlap of an isotropic update that changes as many entries",
    "..._p, ..._p_holm": "two-sided, against binned (overlap_low: against isotropic); after Holm's correction over all "
    "tensors and masks of a checkpoint. NaN: too few changed entries for a test",
    "max_angle, mean_angle": "principal angles between the top-k singular subspaces of W0 and W+, degrees "
    "(..._left, ..._right)",
    "max_angle_isotropic": "the larger for one isotropic update of equal norm, rounded alike; with --angle-null",
    "angle_error_deg": "bound on the error of max_angle_*; 90: the gap below sigma_k is too small, the top-k subspace "
    "is not determined",
    "nss": "|sigma(W+) - sigma(W0)| / |sigma(W0)| over all singular values; small matrices only",
    "nss_top": "the same over the top k (nss_top_error: bound on its error; nss_top_bound: Mirsky)",
    "energy_left, _right, _both": "share of |dW|_F^2 in the top-k left, right, both singular subspaces of W0; "
    "..._chance = k/m, k/n, k^2/(mn); ..._binned: entries permuted within magnitudes, random signs",
    "beyond_null": "matrices whose overlap_principal leaves the binned null after Holm",
    "jaccard, phi (pairs)": "update masks of two checkpoints: |A & B| / |A | B| and correlation; jaccard_chance: "
    "independent masks; jaccard_binned: independent given the magnitude",
}
"""Column -> what it means, for ``--help`` and the HTML page."""

TABLE = {
    "kind": "kind",
    "tensors": "tensors",
    "sparsity": "sparsity",
    "isotropic_sparsity": "isotropic",
    "x": "x",
    "relative_norm": "rel. norm",
    "overlap_principal": "on principal",
    "overlap_principal_binned": "magnitude alone",
    "overlap_low": "on low",
    "overlap_low_isotropic": "low isotropic",
    "beyond_null": "beyond null",
    "max_angle": "max angle",
    "max_angle_isotropic": "angle isotropic",
    "angle_error_deg": "angle error",
    "nss_top": "NSS top k",
    "energy_left": "energy left",
    "energy_left_binned": "energy null",
}
"""Column of the table of kinds -> heading on the terminal and the page."""
COUNTS = ("tensors", "beyond_null")
