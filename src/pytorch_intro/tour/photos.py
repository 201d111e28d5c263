"""Pictures that stand in for the learner's own photographs: cups, keys and leaves, which code draws."""

import math
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from PIL import Image, ImageDraw

SIDE, SCALE = 64, 2  # pixels of a picture; it is made larger first, so that its edges are smooth
Color = tuple[int, int]  # gray and opacity, 0 to 255
Draw = Callable[[ImageDraw.ImageDraw, Color, Color, random.Random], None]


def point(x: float, y: float) -> tuple[float, float]:
    return x * SIDE * SCALE, y * SIDE * SCALE


def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return (*point(left, top), *point(right, bottom))


def draw_cup(draw: ImageDraw.ImageDraw, light: Color, shade: Color, chance: random.Random) -> None:
    height, width, foot = chance.uniform(0.32, 0.6), chance.uniform(0.3, 0.45), chance.uniform(0, 0.1)
    left, top = 0.45 - width / 2, 0.5 - height / 2
    right, bottom = left + width, top + height
    handle = box(right - 0.08, top + 0.15 * height, right + 0.18, top + 0.75 * height)
    draw.ellipse(handle, outline=light, width=round(0.05 * SIDE * SCALE))
    corners = [(left, top), (right, top), (right - foot, bottom), (left + foot, bottom)]
    draw.polygon([point(*corner) for corner in corners], fill=light)
    draw.ellipse(box(left, top - 0.05, right, top + 0.05), fill=shade)


def draw_key(draw: ImageDraw.ImageDraw, light: Color, shade: Color, chance: random.Random) -> None:
    radius, length, thick = chance.uniform(0.11, 0.17), chance.uniform(0.4, 0.52), chance.uniform(0.06, 0.09)
    left = 0.5 - radius - length / 2
    right = left + 2 * radius + length
    draw.ellipse(box(left, 0.5 - radius, left + 2 * radius, 0.5 + radius), fill=light)
    draw.ellipse(box(left + 0.5 * radius, 0.5 - 0.5 * radius, left + 1.5 * radius, 0.5 + 0.5 * radius), fill=shade)
    draw.rectangle(box(left + 2 * radius - 0.03, 0.5 - thick / 2, right, 0.5 + thick / 2), fill=light)
    for number in range(chance.choice((2, 3))):
        end = right - 0.1 * number
        draw.rectangle(box(end - 0.05, 0.5, end, 0.5 + thick / 2 + chance.uniform(0.06, 0.12)), fill=light)


def draw_leaf(draw: ImageDraw.ImageDraw, light: Color, shade: Color, chance: random.Random) -> None:
    length, width = chance.uniform(0.55, 0.75), chance.uniform(0.14, 0.26)
    left = 0.5 - length / 2
    upper = [
        (left + length * x, 0.5 - width * math.sin(math.pi * x**0.8)) for x in [number / 24 for number in range(25)]
    ]
    outline = upper + [(x, 1 - y) for x, y in reversed(upper)]
    draw.polygon([point(*corner) for corner in outline], fill=light)
    draw.line([point(left - 0.08, 0.5), point(left + length, 0.5)], fill=shade, width=round(0.02 * SIDE * SCALE))
    for x in (0.3, 0.5, 0.7):
        for side in (-1, 1):
            vein = [point(left + length * x, 0.5), point(left + length * (x + 0.15), 0.5 + side * width * 0.7)]
            draw.line(vein, fill=shade, width=round(0.012 * SIDE * SCALE))


DRAWINGS: dict[str, Draw] = {"cup": draw_cup, "key": draw_key, "leaf": draw_leaf}


def draw_photo(name: str, chance: random.Random) -> Image.Image:
    """Draw an object of a class, at a random place, in a random size and direction, as a gray picture."""
    size = (SIDE * SCALE, SIDE * SCALE)
    lamp = Image.linear_gradient("L").resize(size).rotate(chance.choice((0, 90, 180, 270)))
    picture = Image.blend(Image.new("L", size, chance.randint(0, 60)), lamp, chance.uniform(0, 0.3))
    light = chance.randint(130, 255)
    layer = Image.new("LA", size)
    draw = ImageDraw.Draw(layer)
    DRAWINGS[name](draw, (light, 255), (int(0.6 * light), 255), chance)
    turn = chance.uniform(-25, 25) if name == "cup" else chance.uniform(0, 360)
    layer = layer.rotate(turn, Image.Resampling.BICUBIC)
    if chance.random() < 0.5:
        layer = layer.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(chance.uniform(0.7, 1.05) * SIDE * SCALE)
    left, top = (round((SIDE * SCALE - side) / 2 + chance.uniform(-0.08, 0.08) * SIDE * SCALE) for _ in range(2))
    layer = layer.resize((side, side))
    picture.paste(layer.getchannel("L"), (left, top), layer.getchannel("A"))
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def make_photos(folder: Path, numbers: Mapping[str, int], seed: int = 0) -> None:
    """Write pictures into one folder per class, such as cup/cup_00.png."""
    chance = random.Random(seed)
    for name, number in numbers.items():
        (folder / name).mkdir(parents=True)
        for place in range(number):
            draw_photo(name, chance).save(folder / name / f"{name}_{place:02}.png")


def spoil_photos(folder: Path) -> None:
    """Cut off a file, and copy a picture twice: into its own class and into a wrong one."""
    file = folder / "key" / "key_07.png"
    file.write_bytes(file.read_bytes()[:400])
    shutil.copy(folder / "cup" / "cup_03.png", folder / "cup" / "my_cup.png")
    shutil.copy(folder / "cup" / "cup_05.png", folder / "key" / "new_key.png")
