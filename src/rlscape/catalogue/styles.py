"""The colour and the marker of every arm, the same in every figure."""

from rlscape.catalogue.grids import learning_rate_arm
from rlscape.catalogue.resolve import ARMS, FIGURES

Style = tuple[str, str]
"""Name of a colour (see :mod:`rlscape.figures.style`) and a marker of matplotlib."""

OWN_STYLES: dict[str, Style] = {
    # arm: colour, marker
    "scalerl": ("blue", "o"),
    "deepseek_grpo": ("red", "v"),
    "qwen_dapo": ("green", "s"),
    "magistral": ("purple", "D"),
    "minimax": ("orange", "^"),
    "baseline": ("grey", "s"),
    "gspo": ("brown", "p"),
    "cispo": ("sky", "^"),
    "fp32_head": ("indigo", "D"),
    "rlvr": ("blue", "o"),
    "sft": ("orange", "s"),
}

FREE_STYLES: tuple[Style, ...] = (
    *(
        ("red", "v"),
        ("green", "s"),
        ("orange", "^"),
        ("purple", "D"),
        ("blue", "o"),
        ("indigo", "p"),
        ("brown", "8"),
        ("sky", "h"),
    ),
    *(("teal", "d"), ("pink", "H"), ("grey", "8"), ("yellow", "H")),
)
"""No star and no cross: these are evaluations."""
RATE_MARKERS = {"half_lr": "<", "double_lr": ">", "x4_lr": "D", "x8_lr": "d"}


def _arm_styles() -> dict[str, Style]:
    """Colour and marker of every arm.

    An arm without a style of its own takes the first free one whose colour the fewest other arms of its figures
    have; at another learning rate it keeps its colour. Figures of more arms than colours are tables or have panels.
    """
    styles = dict(OWN_STYLES)
    shown = [{*figure.arms, *figure.optional} for figure in FIGURES]
    figures = [arms for arms in shown if len(arms) <= len(FREE_STYLES)]
    rates = {learning_rate_arm(arm, rate): (arm, rate) for arm in ARMS for rate in RATE_MARKERS}
    for arm in ARMS:
        if arm in rates:
            own, rate = rates[arm]
            styles[arm] = styles[own][0], RATE_MARKERS[rate]
        elif arm not in styles:
            near = {other for arms in figures if arm in arms for other in arms}
            taken = [styles[other][0] for other in near & styles.keys()]
            styles[arm] = min(FREE_STYLES, key=lambda style: taken.count(style[0]))
    return styles


ARM_STYLES = _arm_styles()
