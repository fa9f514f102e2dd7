"""Claim of P2 -> its simulator."""

from rlscape.power.off_principals import bias, curvature, footprint, masks, restricted, sizes
from rlscape.power.off_principals.tables import simulator
from rlscape.power.worlds import Simulator

SIMULATORS: dict[str, Simulator] = {
    "O1": simulator(sizes.sparser),
    "O2": simulator(sizes.rounded),
    "O3": simulator(footprint.shared),
    "O4": simulator(footprint.striped),
    "O5": simulator(bias.stable),
    "O6": simulator(sizes.leashed),
    "O7": simulator(bias.kept),
    "O8": simulator(masks.avoiding),
    "O9": simulator(masks.targeting),
    "O10": simulator(footprint.following),
    "O11": simulator(restricted.ranked),
    "O12": simulator(restricted.gaining),
    "O13": simulator(restricted.collapsing),
    "O14": simulator(curvature.curved),
    "O15": simulator(masks.generic),
}
