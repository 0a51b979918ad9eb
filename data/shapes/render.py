"""The renderer of the shapes world: anti-aliased, deterministic from (scene, seed), and the scene holds true.

Positions, radii and offsets are fractions of the image; y grows downwards. Each object is drawn as a mask at four
times the resolution (PIL), reduced, and composited over a pale background with a soft gradient.
"""

from __future__ import annotations

import colorsys
import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from data.shapes.scenes import Scene

Colour = tuple[int, int, int]  # RGB
PALETTE: dict[str, Colour] = {
    "red": (218, 28, 36), "orange": (246, 136, 22), "yellow": (250, 222, 44), "green": (36, 158, 68),
    "blue": (26, 102, 218), "purple": (146, 40, 152), "pink": (250, 138, 188), "black": (24, 24, 28),
}  # fmt: skip
SUPERSAMPLE = 4
GAP, MARGIN = 0.04, 0.02
NEAR = 0.12  # largest gap between things that stand next to each other
# radii of "small" and "large", with a gap between them
SMALL, LARGE = (0.105, 0.135), (0.185, 0.25)
# radii without a size word, by the number of objects
PLAIN = {1: (0.14, 0.26), 2: (0.14, 0.24), 3: (0.14, 0.2)}
SLANT = 0.6  # in a relation the off-axis offset is at most this part of the separation
AXES = {"above": (1, -1), "below": (1, 1), "left": (0, -1), "right": (0, 1)}  # axis, sign of (first - second)


def _regular(n: int, inner: float | None = None, start: float = -90.0) -> np.ndarray:
    points = n if inner is None else 2 * n
    angles = np.radians(start + 360.0 / points * np.arange(points))
    radii = np.ones(points) if inner is None else np.where(np.arange(points) % 2, inner, 1.0)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 0.81], 1) / 18.5  # around its centre of mass


def _cross() -> np.ndarray:
    w, e = 0.34, 0.94
    return np.array([(-w, -e), (w, -e), (w, -w), (e, -w), (e, w), (w, w), (w, e), (-w, e), (-w, w), (-e, w),
                     (-e, -w), (-w, -w)])  # fmt: skip


OUTLINES: dict[str, np.ndarray] = {  # polygons around the origin within a radius of about 1
    "circle": 0.9 * _regular(72),
    "square": _regular(4, start=-45.0),
    "triangle": 1.04 * _regular(3),
    "star": 1.04 * _regular(5, inner=0.44),
    "heart": _heart(),
    "cross": _cross(),
}


@dataclass(frozen=True)
class Placement:
    """One object: RGB colour, shape, centre and radius as fractions of the image, angle in degrees, its thing.

    `outline` (points, 2) overrules the shape's own polygon.
    """

    colour: Colour
    shape: str
    x: float
    y: float
    radius: float
    angle: float = 0.0
    thing: int = -1
    opacity: float = 1.0
    outline: np.ndarray | None = None


@dataclass(frozen=True)
class Background:
    """A pale RGB colour and a linear gradient added to it, as RGB per unit along (dx, dy)."""

    colour: tuple[float, float, float]
    slope: tuple[float, float, float] = (0.0, 0.0, 0.0)
    angle: float = 0.0


@dataclass(frozen=True)
class Render:
    """image uint8 (S, S, 3) and what stands on it."""

    image: np.ndarray
    placements: tuple[Placement, ...]


def generator(scene: Scene, seed: int, stream: int = 0) -> np.random.Generator:
    """The random stream of (scene, seed): stable between runs and machines."""
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: give 0 or a positive integer.")
    return np.random.default_rng([seed, zlib.crc32(scene.prompt.encode()), stream])


def jittered(colour: str, rng: np.random.Generator) -> Colour:
    """A palette colour with its hue (+-4 degrees) and lightness (+-0.035) slightly moved."""
    h, lightness, s = colorsys.rgb_to_hls(*(c / 255 for c in PALETTE[colour]))
    dh, dl, ds = rng.uniform(-1, 1, 3)
    rgb = colorsys.hls_to_rgb((h + dh * 4 / 360) % 1.0, lightness + 0.035 * dl, min(1.0, s * (1 + 0.05 * ds)))
    red, green, blue = (round(255 * min(max(c, 0.0), 1.0)) for c in rgb)
    return red, green, blue


def draw_background(rng: np.random.Generator) -> Background:
    """A pale, nearly grey background with a soft gradient; L* stays within about 70..97."""
    grey, angle = rng.uniform(188, 238), rng.uniform(0, 2 * math.pi)
    tint, slope = rng.uniform(-6, 6, 3), rng.uniform(-14, 14) + rng.uniform(-4, 4, 3)
    return Background(tuple((grey + tint).tolist()), tuple(slope.tolist()), float(angle))


def radius_range(size: str | None, objects: int) -> tuple[float, float]:
    """Smallest and largest radius of an object with a size word or none, in a scene of so many objects."""
    if size == "small":
        return SMALL
    low, high = PLAIN[min(objects, 3)]
    return (LARGE[0], LARGE[1] if objects < 3 else 0.2) if size == "large" else (low, high)


def arrange(
    ranges: list[tuple[float, float]],
    rng: np.random.Generator,
    relation: str | None = None,
    groups: list[int] | None = None,
    near: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Radii (N,) within `ranges` and centres (N, 2), disjoint with a gap; group 0 stands `relation` (of) group 1, or next
    to it.

    Rejection sampling, many candidates at a time, so that what is kept is uniform over what is allowed.
    """
    n = len(ranges)
    low, high = np.array(ranges).T
    first, second = np.triu_indices(n, 1)
    k = 1 if n == 1 else 96 if n == 2 else 512
    member = np.array(groups if groups is not None else range(n))
    for _ in range(200):
        radii = rng.uniform(low, high, (k, n))
        room = MARGIN + radii[..., None]
        centres = room + rng.random((k, n, 2)) * (1 - 2 * room)
        apart = radii[:, first] + radii[:, second] + GAP
        good = (np.square(centres[:, first] - centres[:, second]).sum(-1) >= apart * apart).all(1)
        a, b = np.flatnonzero(member == 0), np.flatnonzero(member == 1)
        if near:
            apart = np.linalg.norm(centres[:, a][:, :, None] - centres[:, b][:, None], axis=-1)
            gaps = apart - radii[:, a][:, :, None] - radii[:, b][:, None]
            good &= gaps.min((1, 2)) <= NEAR
        if relation is not None:
            axis, sign = AXES[relation]
            along = centres[..., axis]
            ahead = sign * (along[:, a][:, :, None] - along[:, b][:, None])
            good &= (ahead > radii[:, a][:, :, None] + radii[:, b][:, None] + GAP / 2).all((1, 2))
            between = np.abs(centres[:, a].mean(1) - centres[:, b].mean(1))
            good &= between[:, 1 - axis] < SLANT * between[:, axis]
        if good.any():
            i = int(np.argmax(good))
            return radii[i], centres[i]
    raise ValueError(
        f"{n} objects with radii {ranges} and relation {relation} found no room: use fewer or smaller."
    )


def place(scene: Scene, rng: np.random.Generator) -> tuple[Placement, ...]:
    """Placements for which the scene holds: one for each object, things in order."""
    ranges = [radius_range(scene.things[i].size, len(scene.slots)) for i in scene.slots]
    radii, centres = arrange(ranges, rng, scene.relation, scene.slots, scene.near)
    angles = rng.uniform(-15, 15, len(scene.slots))
    placements = []
    for i, r, (x, y), a in zip(scene.slots, radii, centres, angles, strict=True):
        colour, shape = jittered(scene.things[i].colour, rng), scene.things[i].shape
        placements.append(Placement(colour, shape, float(x), float(y), float(r), float(a), i))
    return tuple(placements)


def mask(placement: Placement, size: int) -> tuple[np.ndarray, int, int]:
    """Coverage (h, w) in [0, 1] of an object and the pixel (top, left) where the patch begins, perhaps outside."""
    angle = math.radians(placement.angle)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    outline = OUTLINES[placement.shape] if placement.outline is None else placement.outline
    points = outline @ turn * (placement.radius * size)
    points += (placement.x * size, placement.y * size)
    left, top = np.floor(points.min(0)).astype(int) - 1
    right, bottom = np.ceil(points.max(0)).astype(int) + 1
    canvas = Image.new("L", ((right - left) * SUPERSAMPLE, (bottom - top) * SUPERSAMPLE))
    corners = (points - (left, top)) * SUPERSAMPLE - 0.5
    ImageDraw.Draw(canvas).polygon(corners.ravel().tolist(), fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLE), np.float32) / 255, int(top), int(left)


def paint(
    canvas: np.ndarray, cover: np.ndarray, top: int, left: int, colour: ArrayLike, opacity: float = 1.0
) -> None:
    """Composite a colour (3,) or picture (h, w, 3) through `cover` (h, w) onto float canvas (S, S, 3), in place."""
    size_y, size_x = canvas.shape[:2]
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + cover.shape[0], size_y), min(left + cover.shape[1], size_x)
    if y1 <= y0 or x1 <= x0:
        return
    inside = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    colour = np.asarray(colour, np.float32)
    under = canvas[y0:y1, x0:x1]
    under += (cover[inside][..., None] * opacity) * ((colour[inside] if colour.ndim == 3 else colour) - under)


def blank(background: Background, size: int) -> np.ndarray:
    """The background as float32 (S, S, 3)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    along = math.cos(background.angle) * line[None] + math.sin(background.angle) * line[:, None]
    colour, slope = (np.asarray(c, np.float32) for c in (background.colour, background.slope))
    return colour + along[..., None] * slope


def finish(canvas: np.ndarray) -> np.ndarray:
    """Float canvas -> uint8 image (S, S, 3)."""
    return (np.clip(canvas, 0, 255) + 0.5).astype(np.uint8)


def render_things(placements: Iterable[Placement], background: Background, size: int = 128) -> np.ndarray:
    """Draw placements, in order, over a background -> uint8 (S, S, 3). What is drawn need not fit any scene."""
    if size < 16 or size > 4096:
        raise ValueError(f"size {size} is out of range: give an image size of 16 to 4096 pixels.")
    canvas = blank(background, size)
    for placement in placements:
        paint(canvas, *mask(placement, size), placement.colour, placement.opacity)
    return finish(canvas)


def layout(scene: Scene, seed: int) -> tuple[Background, tuple[Placement, ...]]:
    """What `render` will draw of (scene, seed)."""
    rng = generator(scene, seed)
    return draw_background(rng), place(scene, rng)


def render(scene: Scene, seed: int, size: int = 128) -> Render:
    """Draw a scene so that every word of it holds; the same (scene, seed, size) is the same image, byte for byte."""
    background, placements = layout(scene, seed)
    return Render(render_things(placements, background, size), placements)
