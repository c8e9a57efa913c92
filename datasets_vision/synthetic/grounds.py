"""The surfaces and grounds on which defects lie and objects stand, each a function (rng, size) -> picture."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from datasets_vision.synthetic.textures import (
    Picture,
    any_colour,
    blend,
    filled,
    fractal,
    grain,
    grain_like,
    grid,
    hsv,
    mixed,
    noise,
    shade,
    step,
    streaks,
    strokes,
    tinted,
    turned,
)

Ground = Callable[[Generator, int], Picture]


def brushed_steel(rng: Generator, size: int) -> Picture:
    field = 0.7 * streaks(rng, size, size, rng.uniform(60, 400)) + 0.4 * noise(rng, size, size, 3)
    return tinted(turned(field, rng), hsv(0.6, rng.uniform(0, 0.08), rng.uniform(0.4, 0.75)), rng.uniform(0.05, 0.12))


def rolled_steel(rng: Generator, size: int) -> Picture:
    field = 0.5 * streaks(rng, size, size, rng.uniform(20, 150), rng.uniform(1, 5)) + 0.5 * grain(rng, size, size, 0.8)
    field += 0.6 * fractal(rng, size, size, 3, 3)
    return tinted(field, hsv(0, 0, rng.uniform(0.2, 0.8)), rng.uniform(0.03, 0.12))


def mottled_steel(rng: Generator, size: int) -> Picture:
    fine = rng.uniform(20, 70)
    field = noise(rng, size, size, fine, fine * rng.uniform(0.5, 1)) + 0.7 * grain(rng, size, size, 0.7)
    return tinted(
        field + 0.5 * fractal(rng, size, size, 3, 2), hsv(0, 0, rng.uniform(0.35, 0.75)), rng.uniform(0.08, 0.2)
    )


def ground_tile(rng: Generator, size: int) -> Picture:
    field = streaks(rng, size, size, 300, rng.uniform(1, 3)) + 0.4 * fractal(rng, size, size, 4, 3)
    picture = tinted(field, hsv(0, 0, rng.uniform(0.25, 0.75)), rng.uniform(0.06, 0.16))
    x, _ = grid(size, size)
    edge = np.abs(x / size - 0.5) * 2
    shade(picture, -np.float32(rng.uniform(0.2, 0.7)) * step(edge, rng.uniform(0.85, 0.98), 0.15))
    return picture


def cast_iron(rng: Generator, size: int) -> Picture:
    field = fractal(rng, size, size, 12, 4, 0.8) + 0.5 * grain(rng, size, size)
    return tinted(field, hsv(0.08, rng.uniform(0, 0.1), rng.uniform(0.18, 0.4)), rng.uniform(0.12, 0.25))


def wood_grain(rng: Generator, size: int) -> Picture:
    x, y = grid(size, size)
    waves = rng.uniform(3, 14)
    bend = x / size * waves + 0.5 * fractal(rng, size, size, 2, 2) + 0.4 * y / size
    rings = np.sin(2 * np.pi * bend) * 0.5 + 0.5 * streaks(rng, size, size, 60, 1.5)
    hue, value = rng.uniform(0.05, 0.11), rng.uniform(0.35, 0.85)
    picture = mixed(step(rings, 0, 2.5), hsv(hue, 0.65, value * 0.6), hsv(hue + 0.01, 0.45, value))
    for cut in range(int(rng.integers(0, 4))):
        at = (cut + rng.random()) * size / 3
        shade(picture, -np.float32(0.5) * np.exp(-(((x - at) / 1.2) ** 2)))
    return picture if rng.random() < 0.5 else np.ascontiguousarray(picture.swapaxes(0, 1))


def fabric_weave(rng: Generator, size: int) -> Picture:
    x, y = grid(size, size)
    pitch = rng.uniform(3, 9)
    warp = 1.5 * noise(rng, size, size, 5)
    across, down = (x + warp) * np.float32(np.pi / pitch), (y + warp) * np.float32(np.pi / pitch)
    field = np.where(np.sin(across) * np.sin(down) > 0, np.abs(np.sin(across)), np.abs(np.sin(down))) - 0.6
    return tinted(field + 0.2 * grain(rng, size, size), any_colour(rng, (0, 0.7)), rng.uniform(0.2, 0.5))


def concrete(rng: Generator, size: int) -> Picture:
    field = fractal(rng, size, size, 3, 5, 0.7) + 0.5 * grain(rng, size, size, 0.6)
    picture = tinted(field, hsv(0.1, rng.uniform(0, 0.12), rng.uniform(0.4, 0.75)), rng.uniform(0.05, 0.13))
    pores = step(noise(rng, size, size, size / 5), rng.uniform(2.0, 2.6), 0.5)
    shade(picture, -0.4 * pores)
    return picture


def leather(rng: Generator, size: int) -> Picture:
    cells = rng.uniform(18, 45)
    creases = np.minimum(np.abs(noise(rng, size, size, cells)), np.abs(noise(rng, size, size, cells)))
    picture = tinted(
        fractal(rng, size, size, 3, 2),
        hsv(rng.uniform(0, 0.1), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.6)),
        0.06,
    )
    shade(picture, np.float32(rng.uniform(0.3, 0.6)) * (step(creases, 0.15, 0.35) - 1))
    return picture


def painted_panel(rng: Generator, size: int) -> Picture:
    peel = rng.uniform(15, 60)
    return tinted(noise(rng, size, size, peel) + noise(rng, size, size, 2), any_colour(rng), rng.uniform(0.01, 0.05))


def plastic(rng: Generator, size: int) -> Picture:
    picture = tinted(grain(rng, size, size, 0.7), any_colour(rng, (0, 0.8)), rng.uniform(0.01, 0.06))
    x, y = grid(size, size)
    gloss = np.exp(
        -((x - rng.uniform(0, size)) ** 2 + (y - rng.uniform(0, size)) ** 2) / (size * rng.uniform(0.2, 0.6)) ** 2
    )
    blend(picture, np.asarray(gloss * rng.uniform(0, 0.4), np.float32), np.ones(3, np.float32))
    return picture


def circuit_board(rng: Generator, size: int) -> Picture:
    board = hsv(rng.choice([0.33, 0.38, 0.6, 0.0]), rng.uniform(0.5, 0.9), rng.uniform(0.2, 0.45))
    picture = tinted(noise(rng, size, size, 30), board, 0.05)
    tracks, widths = [], []
    for _ in range(int(rng.integers(6, 14))):
        a, b = rng.uniform(0, size, 2)
        bend = rng.choice([-1, 1]) * rng.uniform(8, 40)
        points = [(a, 0), (a, b), (a + bend, b + abs(bend)), (a + bend, size)]
        points = points if rng.random() < 0.5 else [(q, p) for p, q in points]
        tracks.append(np.array(points, np.float32))
        widths.append(int(rng.integers(2, 6)))
    copper = hsv(0.1, rng.uniform(0.2, 0.6), rng.uniform(0.6, 0.9)) if rng.random() < 0.5 else board * 1.6
    blend(picture, strokes(size, tracks, widths), copper)
    pads = np.zeros((size, size), np.uint8)
    for x, y in rng.integers(0, size, (int(rng.integers(4, 14)), 2)).tolist():
        cv2.circle(pads, (x, y), int(rng.integers(3, 7)), 255, -1, cv2.LINE_AA)
        cv2.circle(pads, (x, y), 2, 0, -1, cv2.LINE_AA)
    blend(picture, np.asarray(pads, np.float32) / np.float32(255), hsv(0.12, 0.3, 0.85))
    return picture


def ceramic_tile(rng: Generator, size: int) -> Picture:
    picture = tinted(fractal(rng, size, size, 4, 3), any_colour(rng, (0, 0.35)), rng.uniform(0.01, 0.08))
    x, y = grid(size, size)
    pitch, wide = size / rng.uniform(0.8, 4), rng.uniform(1, 4)
    joints = np.minimum((x + rng.uniform(0, size)) % pitch, (y + rng.uniform(0, size)) % pitch)
    blend(picture, step(-joints, -wide, 1.5), hsv(0.1, 0.05, rng.uniform(0.2, 0.8)))
    return picture


def carbon_fibre(rng: Generator, size: int) -> Picture:
    x, y = grid(size, size)
    pitch = rng.uniform(8, 20)
    twill = ((x // pitch + y // pitch * rng.choice([1, 2])) % 4 < 2).astype(np.float32)
    field = np.where(twill > 0, np.sin(x * 1.6), np.sin(y * 1.6)) * 0.3 + twill - 0.5
    return tinted(field, hsv(0.6, 0.05, rng.uniform(0.15, 0.35)), rng.uniform(0.2, 0.5))


def rubber(rng: Generator, size: int) -> Picture:
    x, y = grid(size, size)
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(8, 24)
    ribs = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / pitch).astype(np.float32)
    return tinted(
        0.6 * ribs + 0.5 * grain(rng, size, size, 0.6), hsv(0, 0, rng.uniform(0.12, 0.3)), rng.uniform(0.08, 0.3)
    )


def threaded_rod(rng: Generator, size: int) -> Picture:
    x, y = grid(size, size)
    pitch, slant = rng.uniform(25, 70), rng.uniform(-0.7, 0.7)
    phase = (x + slant * y) * 2 * np.pi / pitch + rng.uniform(0, 6)
    field = np.sin(phase) + 0.4 * np.sin(2 * phase + 1) + 0.15 * streaks(rng, size, size, 50)
    return tinted(
        np.asarray(field, np.float32),
        hsv(rng.uniform(0.08, 0.14), rng.uniform(0, 0.5), rng.uniform(0.4, 0.65)),
        rng.uniform(0.2, 0.5),
    )


def paper_web(rng: Generator, size: int) -> Picture:
    return tinted(
        fractal(rng, size, size, 25, 3, 0.8),
        hsv(0.11, rng.uniform(0, 0.12), rng.uniform(0.75, 0.97)),
        rng.uniform(0.01, 0.05),
    )


def white_ground(rng: Generator, size: int) -> Picture:
    picture = tinted(
        noise(rng, size, size, 2), hsv(rng.uniform(0.05, 0.65), rng.uniform(0, 0.12), rng.uniform(0.7, 0.97)), 0.04
    )
    x, y = grid(size, size)
    if rng.random() < 0.3:  # the edge of the sheet
        side = np.cos(t := rng.uniform(0, 6.3)) * (x - size / 2) + np.sin(t) * (y - size / 2)
        shade(
            picture,
            -np.float32(rng.uniform(0.1, 0.5)) * step(side, rng.uniform(0.3, 0.6) * size, rng.uniform(2, 9)),
        )
    return picture


def grass(rng: Generator, size: int) -> Picture:
    field = grain_like(streaks(rng, size, size, 10, 1.6) + noise(rng, size, size, 20) + fractal(rng, size, size, 3, 3))
    low, high = (
        hsv(rng.uniform(0.2, 0.36), 0.7, 0.12),
        hsv(rng.uniform(0.15, 0.33), rng.uniform(0.3, 0.7), rng.uniform(0.5, 0.8)),
    )
    return mixed(step(field, 0.2, 3), low, high)


def foliage(rng: Generator, size: int) -> Picture:
    leaves = np.maximum(noise(rng, size, size, 18), noise(rng, size, size, 12)) + 0.5 * noise(rng, size, size, 40)
    return mixed(
        step(leaves, 0.5, 3),
        hsv(0.3, 0.5, 0.08),
        hsv(rng.uniform(0.1, 0.35), rng.uniform(0.2, 0.7), rng.uniform(0.45, 0.9)),
    )


def gravel(rng: Generator, size: int) -> Picture:
    cells = rng.uniform(18, 50)
    stones = (
        np.abs(noise(rng, size, size, cells)) + 0.4 * noise(rng, size, size, cells / 2) + 0.15 * grain(rng, size, size)
    )
    return tinted(
        stones - 0.7,
        hsv(rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.35), rng.uniform(0.35, 0.65)),
        rng.uniform(0.2, 0.4),
    )


def carpet(rng: Generator, size: int) -> Picture:
    field = grain(rng, size, size, rng.uniform(0.6, 1.2)) + 0.6 * fractal(rng, size, size, 4, 3)
    picture = tinted(field, any_colour(rng, (0.05, 0.7)), rng.uniform(0.08, 0.25))
    if rng.random() < 0.4:
        x, y = grid(size, size)
        stripes = np.sin((x * rng.uniform(-1, 1) + y) * 2 * np.pi / rng.uniform(25, 90))
        blend(picture, step(np.asarray(stripes, np.float32), rng.uniform(-0.5, 0.5), 0.1) * 0.7, any_colour(rng))
    return picture


def brick_wall(rng: Generator, size: int) -> Picture:
    x, y = grid(size, size)
    tall = rng.uniform(16, 40)
    long = tall * rng.uniform(2, 3)
    row = np.floor(y / tall)
    joint = np.minimum(y % tall, (x + row % 2 * long / 2) % long)
    tone = np.sin(row * 12.9 + np.floor((x + row % 2 * long / 2) / long) * 78.2).astype(np.float32)
    picture = tinted(
        0.5 * tone + 0.5 * fractal(rng, size, size, 16, 3),
        hsv(rng.uniform(0, 0.08), rng.uniform(0.2, 0.7), rng.uniform(0.35, 0.7)),
        0.15,
    )
    blend(picture, step(-joint, -rng.uniform(1.5, 4), 1.5), hsv(0.1, 0.1, rng.uniform(0.3, 0.8)))
    return picture


def clutter(rng: Generator, size: int) -> Picture:
    picture = tinted(fractal(rng, size, size, 3, 3), any_colour(rng, (0, 0.7)), 0.15)
    for _ in range(int(rng.integers(4, 10))):
        centre, spread = rng.uniform(0, size, 2), rng.uniform(10, size * 0.5)
        corners = np.asarray(centre + rng.normal(0, spread, (int(rng.integers(3, 6)), 2)), np.float32)
        blend(picture, filled(size, size, corners) * np.float32(rng.uniform(0.4, 1)), any_colour(rng, (0, 0.8)))
    shade(picture, 0.08 * fractal(rng, size, size, 8, 3))
    return picture


def room(rng: Generator, size: int) -> Picture:
    floor = FLOORS[int(rng.integers(len(FLOORS)))](rng, size)
    wall = tinted(noise(rng, size, size, 2), any_colour(rng, (0, 0.5)), 0.06)
    _, y = grid(size, size)
    horizon = rng.uniform(0.1, 0.6) * size
    blend(floor, step(-y, -horizon, 1.5), wall)
    shade(floor, -np.float32(rng.uniform(0, 0.4)) * np.exp(-np.abs(y - horizon) / rng.uniform(2, 15)))
    return floor


FLOORS: tuple[Ground, ...] = (wood_grain, carpet, concrete, grass, gravel, ceramic_tile, white_ground)

STARTER_SURFACES: dict[str, Ground] = {
    "brushed_steel": brushed_steel,
    "rolled_steel": rolled_steel,
    "mottled_steel": mottled_steel,
    "ground_tile": ground_tile,
    "cast_iron": cast_iron,
    "wood_grain": wood_grain,
    "fabric_weave": fabric_weave,
    "concrete": concrete,
    "leather": leather,
    "painted_panel": painted_panel,
    "plastic": plastic,
    "circuit_board": circuit_board,
    "ceramic_tile": ceramic_tile,
    "carbon_fibre": carbon_fibre,
    "rubber": rubber,
    "threaded_rod": threaded_rod,
    "paper_web": paper_web,
}

GROUNDS: dict[str, Ground] = {
    "white_ground": white_ground,
    "wood_grain": wood_grain,
    "fabric_weave": fabric_weave,
    "concrete": concrete,
    "leather": leather,
    "grass": grass,
    "foliage": foliage,
    "gravel": gravel,
    "carpet": carpet,
    "brick_wall": brick_wall,
    "clutter": clutter,
    "room": room,
}
