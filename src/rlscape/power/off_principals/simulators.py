"""Claim of P2 -> its simulator."""

from rlscape.power.off_principals import bias, curvature, footprint, masks, restricted, sizes
from rlscape.power.off_principals.tables import simulator
from rlscape.power.worlds import Simulator

SIMULATORS: dict[str, Simulator] = {
    "O1": simulator(sizes.sparser, sizes.SPARSER),
    "O2": simulator(sizes.rounded, sizes.ROUNDING),
    "O3": simulator(footprint.shared, footprint.SHARED),
    "O4": simulator(footprint.striped, footprint.STRIPED),
    "O5": simulator(bias.stable, bias.KEEPS),
    "O6": simulator(sizes.leashed, sizes.LEASH),
    "O7": simulator(bias.kept, bias.LARGER),
    "O8": simulator(masks.preferring, masks.AVOIDING),
    "O9": simulator(masks.preferring, masks.TARGETING),
    "O10": simulator(footprint.following, footprint.FALLS),
    "O11": simulator(restricted.ranked, restricted.MASKED),
    "O12": simulator(restricted.gaining, restricted.GAINS),
    "O13": simulator(restricted.collapsing, restricted.COLLAPSING),
    "O14": simulator(curvature.curved, curvature.CURVED),
    "O15": simulator(masks.generic, masks.GENERIC),
}
