"""Things that stand around in scenes, each described in the frame of its place and made of a few shapes."""

from __future__ import annotations

import math

from depth_anything_3.synth.draft import Draft, Look, Place, tinted

WOODS = ((0.36, 0.2, 0.1), (0.5, 0.33, 0.18), (0.22, 0.12, 0.07), (0.62, 0.47, 0.3))
METAL = Look("plain", (0.25, 0.26, 0.28), gloss=0.5, sharpness=80.0, dirt=0.1)
RUBBER = Look("plain", (0.03, 0.03, 0.03), dirt=0.3)
GLASS = Look("plain", (0.06, 0.08, 0.1), gloss=0.8, sharpness=200.0, dirt=0.05)


def wood(draft: Draft) -> Look:
    """Wood with grain."""
    first = WOODS[int(draft.rng.integers(len(WOODS)))]
    dark = (first[0] * 0.55, first[1] * 0.5, first[2] * 0.45)
    return Look("grain", first, dark, period=draft.uniform(0.03, 0.08), gloss=0.12, sharpness=30.0)


def cloth(draft: Draft) -> Look:
    """Fabric, plain or patterned."""
    texture = draft.pick("stains", "stripes", "checker", "dots", "plain", "speckle")
    first = draft.colour(0.15, 0.6, 0.8)
    return Look(texture, first, draft.colour(0.1, 0.7, 0.6), period=draft.uniform(0.04, 0.2))


def paint(draft: Draft) -> Look:
    """Glossy paint or plastic."""
    return Look("plain", draft.colour(0.15, 0.7, 0.9), gloss=draft.uniform(0.1, 0.6), sharpness=60.0, dirt=0.06)


def ware(draft: Draft) -> Look:
    """Glazed pottery: one colour, or a pattern."""
    texture = draft.pick("plain", "stripes", "dots", "checker", "gradient", "stains")
    return Look(texture, draft.colour(0.3, 0.85, 0.7), draft.colour(0.1, 0.5, 0.9), period=draft.uniform(0.02, 0.06),
                gloss=0.5, sharpness=90.0, dirt=0.05)  # fmt: skip


def table(place: Place, width: float, depth: float, height: float, look: Look) -> None:
    """A board on four legs."""
    place.box(0, 0, height - 0.04, (width, depth, 0.04), look)
    for x in (-1, 1):
        for y in (-1, 1):
            place.box(x * (width / 2 - 0.06), y * (depth / 2 - 0.06), 0, (0.06, 0.06, height - 0.04), tinted(look, 0.8))


def chair(place: Place, look: Look, seat: Look) -> None:
    """Four legs, a seat, a back towards +y."""
    place.box(0, 0, 0.43, (0.42, 0.42, 0.05), seat)
    for x in (-0.18, 0.18):
        place.box(x, -0.18, 0, (0.04, 0.04, 0.43), look)
        place.box(x, 0.19, 0, (0.04, 0.04, 0.95), look)
    for z in (0.62, 0.82):
        place.box(0, 0.19, z, (0.34, 0.025, 0.09), look)


def sofa(place: Place, width: float, look: Look) -> None:
    """Seat, back towards +y, arms, two cushions."""
    place.box(0, 0, 0.08, (width, 0.85, 0.34), look)
    place.box(0, 0.35, 0.42, (width, 0.2, 0.42), tinted(look, 0.92))
    for side in (-1, 1):
        place.box(side * (width / 2 - 0.09), 0, 0.42, (0.18, 0.85, 0.2), tinted(look, 0.85))
        place.ball(side * (width / 2 - 0.42), 0.16, 0.4, (0.42, 0.2, 0.4), cloth(place.draft))


def shelf(place: Place, width: float, height: float, look: Look) -> None:
    """A bookcase with its back towards +y."""
    draft, levels = place.draft, max(int(height / 0.4), 2)
    for side in (-1, 1):
        place.box(side * (width / 2 - 0.015), 0, 0, (0.03, 0.3, height), look)
    place.box(0, 0.14, 0, (width, 0.015, height), tinted(look, 0.6))
    for level in range(levels + 1):
        z = level * (height - 0.03) / levels
        place.box(0, 0, z, (width - 0.06, 0.29, 0.03), look)
        if level < levels and draft.chance(0.85):
            length = draft.uniform(0.4, 0.85) * width
            backs = Look("books", draft.colour(0.3, 0.6, 0.9), draft.colour(0.5, 0.9, 0.2), period=0.045, aspect=5.0)
            shift = draft.uniform(-0.5, 0.5) * (width - 0.1 - length)
            place.box(shift, 0.02, z + 0.03, (length, 0.2, draft.uniform(0.2, 0.3)), backs)


def picture(place: Place, width: float, height: float) -> None:
    """A framed picture whose back is in the plane y = 0; it looks towards -y."""
    draft = place.draft
    motif = draft.pick("stains", "checker", "dots", "gradient", "books", "stripes", "leaves")
    canvas = Look(
        motif, draft.colour(0.3, 0.8, 1), draft.colour(0.1, 0.7, 1), period=draft.uniform(0.1, 0.4), aspect=1.5
    )
    place.box(0, -0.015, 0, (width, 0.03, height), wood(draft))
    place.box(0, -0.025, 0.04, (width - 0.08, 0.02, height - 0.08), canvas)


def plant(place: Place, height: float) -> None:
    """A pot with leaves."""
    draft = place.draft
    place.cup(0, 0, 0, height * 0.32, height * 0.3, ware(draft))
    green = Look("leaves", (0.05, 0.16, 0.04), (0.14, 0.32, 0.08), period=height * 0.12)
    place.rod(0, 0, 0.03, height * 0.05, height * 0.6, Look("plain", (0.18, 0.12, 0.06)))
    for _ in range(4):
        size = height * draft.uniform(0.3, 0.5)
        place.ball(draft.uniform(-0.12, 0.12) * height, draft.uniform(-0.12, 0.12) * height,
                   height * draft.uniform(0.35, 0.6), (size, size, size * 0.8), green)  # fmt: skip


def small_thing(place: Place) -> None:
    """Something that stands on a table, at most 0.3 m tall."""
    things = (_cup, _bottle, _book_pile, _fruit, _bowl, _tin, _block, _lamp)
    things[int(place.draft.rng.integers(len(things)))](place)


def _cup(place: Place) -> None:
    look, width = ware(place.draft), place.draft.uniform(0.07, 0.1)
    place.cup(0, 0, 0, width, width * 1.15, look)
    place.box(width * 0.62, 0, width * 0.3, (width * 0.3, 0.012, width * 0.5), look)


def _bottle(place: Place) -> None:
    width, look = place.draft.uniform(0.06, 0.09), paint(place.draft)
    place.rod(0, 0, 0, width, width * 2.2, look)
    place.ball(0, 0, width * 1.7, (width, width, width), look)
    place.rod(0, 0, width * 2.5, width * 0.35, width * 0.9, look)
    place.rod(0, 0, width * 0.6, width * 1.01, width, ware(place.draft))


def _book_pile(place: Place) -> None:
    z = 0.0
    for _ in range(int(place.draft.rng.integers(1, 5))):
        thick, yaw = place.draft.uniform(0.015, 0.045), place.draft.uniform(-0.3, 0.3)
        place.at(0, 0, 0, yaw).box(0, 0, z, (place.draft.uniform(0.15, 0.24), place.draft.uniform(0.11, 0.17), thick),
                                   cloth(place.draft))  # fmt: skip
        z += thick


def _fruit(place: Place) -> None:
    for x, y in ((0, 0), (0.075, 0.02), (0.02, 0.075)):
        size = place.draft.uniform(0.06, 0.08)
        red = (place.draft.uniform(0.4, 0.7), place.draft.uniform(0.08, 0.5), 0.04)
        place.ball(x, y, 0, (size, size, size * 0.93), Look("speckle", red, (0.6, 0.5, 0.1), period=0.03, gloss=0.3))


def _bowl(place: Place) -> None:
    width = place.draft.uniform(0.14, 0.24)
    look = ware(place.draft)
    cut = place.part("sphere", 0, 0, width * 0.05, (width * 0.92, width * 0.92, width * 0.92))
    place.draft.add(place.part("cylinder", 0, 0, 0, (width, width, width * 0.42)), look, cut)


def _tin(place: Place) -> None:
    place.rod(0, 0, 0, 0.075, 0.11, METAL)
    place.rod(0, 0, 0.008, 0.076, 0.094, ware(place.draft))


def _block(place: Place) -> None:
    size = place.draft.uniform(0.05, 0.12)
    shape = place.draft.pick("box", "wedge")
    place.draft.add(place.part(shape, 0, 0, 0, (size, size * 1.4, size)), cloth(place.draft))


def _lamp(place: Place) -> None:
    place.rod(0, 0, 0, 0.12, 0.015, METAL)
    place.rod(0, 0, 0, 0.015, 0.22, METAL)
    place.cup(0, 0, 0.2, 0.14, 0.11, Look("plain", place.draft.colour(0.5, 0.9, 0.3), glow=0.5), wall=0.05)


def tree(place: Place, height: float) -> None:
    """A trunk and a crown of several clumps, or a conifer of stacked cones' hulls."""
    draft = place.draft
    bark = Look("stains", (0.16, 0.1, 0.06), (0.08, 0.05, 0.03), period=0.12, aspect=4.0, dirt=0.4)
    green = draft.uniform(0.7, 1.3)
    crown = Look("leaves", (0.04 * green, 0.11 * green, 0.025), (0.15 * green, 0.3 * green, 0.07), period=0.35)
    place.rod(0, 0, -0.3, height * 0.06, height * 0.6 + 0.3, bark)
    for index in range(5):
        size = height * draft.uniform(0.34, 0.5)
        angle, reach = index * 2.5, height * draft.uniform(0.08, 0.17) * (index > 0)
        place.ball(math.cos(angle) * reach, math.sin(angle) * reach, height * draft.uniform(0.36, 0.58),
                   (size, size, size * 0.85), tinted(crown, draft.uniform(0.8, 1.15)))  # fmt: skip


def car(place: Place) -> None:
    """A parked car along x, made of boxes, wedges and wheels."""
    body, low = paint(place.draft), 0.28
    place.box(0, 0, low, (4.2, 1.75, 0.5), body)
    place.box(-0.25, 0, low + 0.5, (1.7, 1.5, 0.55), GLASS)
    place.box(-0.25, 0, low + 1.03, (1.75, 1.54, 0.05), body)
    place.ramp(1.0, 0, low + 0.5, (0.8, 1.5, 0.53), GLASS)
    place.ramp(-1.4, 0, low + 0.5, (0.6, 1.5, 0.53), GLASS, yaw=math.pi)
    for x in (-1.3, 1.3):
        for y in (-0.8, 0.8):
            place.lying(x, y, 0, 0.64, 0.22, RUBBER)
            place.lying(x, y * 1.02, 0.16, 0.32, 0.23, METAL)
    for y in (-0.6, 0.6):
        place.box(2.1, y, low + 0.2, (0.04, 0.35, 0.14), Look("plain", (0.9, 0.9, 0.8), gloss=0.5, glow=0.3))
        place.box(-2.1, y, low + 0.25, (0.04, 0.35, 0.12), Look("plain", (0.6, 0.05, 0.04), gloss=0.5))


def street_lamp(place: Place, height: float) -> None:
    """A thin post with an arm towards -y."""
    place.rod(0, 0, 0, 0.1, height, METAL)
    place.box(0, -0.6, height - 0.05, (0.06, 1.2, 0.05), METAL)
    place.box(0, -1.15, height - 0.12, (0.2, 0.45, 0.07), Look("plain", (0.8, 0.8, 0.7), glow=0.3))


def sign(place: Place) -> None:
    """A round traffic sign that looks towards -y."""
    place.rod(0, 0, 0, 0.06, 2.4, METAL)
    board = Look("checker", (0.6, 0.05, 0.05), (0.85, 0.85, 0.85), period=0.4, dirt=0.05)
    place.lying(0, -0.05, 2.1, 0.6, 0.03, board)


def house(place: Place, width: float, depth: float, height: float) -> None:
    """Walls with windows and a door towards -y, and a gable roof along x."""
    draft = place.draft
    front = Look("bricks", (0.4, 0.16, 0.1), (0.5, 0.47, 0.42), period=0.09, aspect=2.6)
    if draft.chance(0.6):
        front = Look("stains", draft.colour(0.5, 0.8, 0.25), draft.colour(0.4, 0.7, 0.2), period=0.8, dirt=0.25)
    place.box(0, 0, -0.6, (width, depth, height + 0.6), front)
    roof = Look("bricks", (0.32, 0.12, 0.08), (0.12, 0.06, 0.05), period=0.22, aspect=1.3, dirt=0.35)
    for yaw in (math.pi / 2, -math.pi / 2):
        shift = (depth / 4 + 0.12) * (1 if yaw > 0 else -1)
        place.ramp(0, shift, height, (depth / 2 + 0.25, width + 0.6, depth * 0.4), roof, yaw=yaw)
    place.box(width * 0.28, depth * 0.1, height, (0.5, 0.5, depth * 0.4 + 0.5), front)
    place.box(0, -depth / 2, 0, (1.0, 0.08, 2.05), wood(draft))
    for side in (-1, 1):
        for face, yaw in ((-depth / 2, 0.0), (depth / 2, math.pi)):
            pane = place.at(side * width * 0.3, face, 0.95, yaw)
            pane.box(0, 0, 0, (1.3, 0.08, 1.2), Look("plain", (0.8, 0.8, 0.78)))
            for half in (-0.3, 0.3):
                pane.box(half, -0.01, 0.07, (0.52, 0.08, 1.06), GLASS)
