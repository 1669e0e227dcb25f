"""Positions on the globe as 52-bit numbers, and which of those numbers an area covers.

A cell of `step` bits a side is a number of twice as many: the bits of its row, by latitude, at even places,
those of its column at odd ones. Cells near each other mostly share their high bits, so a sorted set whose
scores are cells of 26 bits a side finds what lies in any larger cell as one range of scores. A circle or a
box is looked for in the cell of its centre, of a size that makes the eight cells around it cover the rest.

Source:     https://en.wikipedia.org/wiki/Geohash; the spherical mercator of EPSG:3857 bounds latitudes. Which
            cells are looked at, and in which order, is what comparison with redis-server 8.2 shows: results
            without an order of their own come in that one.
Units:      degrees; metres on a sphere of EARTH_RADIUS_M. A range of scores is half open.
Errors:     none; callers check longitudes and latitudes.
"""

from __future__ import annotations

from math import asin, cos, pi, sin, sqrt
from typing import Final

LONGITUDE_MIN: Final = -180.0
LONGITUDE_MAX: Final = 180.0
LATITUDE_MIN: Final = -85.05112878
LATITUDE_MAX: Final = 85.05112878
EARTH_RADIUS_M: Final = 6372797.560856

STEP_MAX: Final = 26
_MERCATOR_MAX_M: Final = 20037726.37
_RADIANS: Final = pi / 180.0

_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
_TEXT_LENGTH: Final = 11

_LOW_32: Final = 0xFFFF_FFFF
_U64: Final = 0xFFFF_FFFF_FFFF_FFFF
_EVEN: Final = 0x5555_5555_5555_5555
_ODD: Final = 0xAAAA_AAAA_AAAA_AAAA


def _spread(value: int) -> int:
    """The 32 low bits at even places."""
    value &= _LOW_32
    value = (value | (value << 16)) & 0x0000_FFFF_0000_FFFF
    value = (value | (value << 8)) & 0x00FF_00FF_00FF_00FF
    value = (value | (value << 4)) & 0x0F0F_0F0F_0F0F_0F0F
    value = (value | (value << 2)) & 0x3333_3333_3333_3333
    return (value | (value << 1)) & _EVEN


def _gather(value: int) -> int:
    """The bits at even places."""
    value &= _EVEN
    value = (value | (value >> 1)) & 0x3333_3333_3333_3333
    value = (value | (value >> 2)) & 0x0F0F_0F0F_0F0F_0F0F
    value = (value | (value >> 4)) & 0x00FF_00FF_00FF_00FF
    value = (value | (value >> 8)) & 0x0000_FFFF_0000_FFFF
    return (value | (value >> 16)) & _LOW_32


class Cell:
    """A cell and the degrees it covers."""

    def __init__(self, bits: int, step: int) -> None:
        self.bits = bits
        self.step = step
        side = 1 << step
        row = _gather(bits)
        column = _gather(bits >> 1)
        height = LATITUDE_MAX - LATITUDE_MIN
        width = LONGITUDE_MAX - LONGITUDE_MIN
        self.latitude_min = LATITUDE_MIN + (row / side) * height
        self.latitude_max = LATITUDE_MIN + ((row + 1) / side) * height
        self.longitude_min = LONGITUDE_MIN + (column / side) * width
        self.longitude_max = LONGITUDE_MIN + ((column + 1) / side) * width

    def scores(self) -> tuple[float, float]:
        """The range of scores of the positions within."""
        shift = 2 * (STEP_MAX - self.step)
        return float(self.bits << shift), float((self.bits + 1) << shift)


def _bits(longitude: float, latitude: float, low: float, high: float, step: int) -> int:
    side = float(1 << step)
    row = int((latitude - low) / (high - low) * side)
    column = int((longitude - LONGITUDE_MIN) / (LONGITUDE_MAX - LONGITUDE_MIN) * side)
    return _spread(row) | (_spread(column) << 1)


def encoded(longitude: float, latitude: float) -> int:
    """The score of a position."""
    return _bits(longitude, latitude, LATITUDE_MIN, LATITUDE_MAX, STEP_MAX)


def _as_unsigned(score: float) -> int:
    """What C on x86-64 makes of a double as a 64-bit number without sign."""
    if -9223372036854775808.0 <= score < 18446744073709551616.0:
        return int(score) & _U64
    return 0 if score > 0.0 else 1 << 63


def decoded(score: float) -> tuple[float, float]:
    """Longitude and latitude of the middle of a score's cell; any double gives some position."""
    cell = Cell(_as_unsigned(score), STEP_MAX)
    longitude = (cell.longitude_min + cell.longitude_max) / 2
    latitude = (cell.latitude_min + cell.latitude_max) / 2
    return (
        min(max(longitude, LONGITUDE_MIN), LONGITUDE_MAX),
        min(max(latitude, LATITUDE_MIN), LATITUDE_MAX),
    )


def text(score: float) -> bytes:
    """The Geohash string of a score's position, of latitudes up to 90; the last letter is always 0."""
    longitude, latitude = decoded(score)
    bits = _bits(longitude, latitude, -90.0, 90.0, STEP_MAX)
    letters = bytearray()
    for place in range(1, _TEXT_LENGTH):
        letters.append(_ALPHABET[(bits >> (2 * STEP_MAX - 5 * place)) & 31])
    letters.append(_ALPHABET[0])
    return bytes(letters)


# Distances ----------------------------------------------------------------------------------------


def latitude_distance(one: float, other: float) -> float:
    """Metres between two latitudes on one meridian."""
    return EARTH_RADIUS_M * abs(other * _RADIANS - one * _RADIANS)


def distance(longitude_1: float, latitude_1: float, longitude_2: float, latitude_2: float) -> float:
    """Metres along the great circle, by the haversine formula."""
    across = sin((longitude_2 * _RADIANS - longitude_1 * _RADIANS) / 2)
    if across == 0.0:
        return latitude_distance(latitude_1, latitude_2)
    phi_1 = latitude_1 * _RADIANS
    phi_2 = latitude_2 * _RADIANS
    along = sin((phi_2 - phi_1) / 2)
    a = along * along + cos(phi_1) * cos(phi_2) * across * across
    if a > 1.0:  # by rounding; C has no exceptions for this
        return float("nan")
    return 2.0 * EARTH_RADIUS_M * asin(sqrt(a))


def _cosine(angle: float) -> float:
    return cos(angle) if angle - angle == 0.0 else float("nan")


# Areas --------------------------------------------------------------------------------------------


class Shape:
    """A circle of `radius` or a box of `width` and `height` around a position, in units of `metres` each."""

    def __init__(self) -> None:
        self.longitude = 0.0
        self.latitude = 0.0
        self.is_box = False
        self.radius = 0.0
        self.width = 0.0
        self.height = 0.0
        self.metres = 1.0

    def distance_within(self, longitude: float, latitude: float) -> float:
        """Metres from the centre to a position within the shape; negative when it is outside.

        A NaN, between antipodes, is within.
        """
        if not self.is_box:
            away = distance(self.longitude, self.latitude, longitude, latitude)
            return -1.0 if away > self.radius * self.metres else away
        if latitude_distance(latitude, self.latitude) > self.height * self.metres / 2:
            return -1.0
        if distance(longitude, latitude, self.longitude, latitude) > self.width * self.metres / 2:
            return -1.0
        return distance(self.longitude, self.latitude, longitude, latitude)

    def cells(self) -> list[Cell]:
        """The cells to look at, which cover the shape, in the server's order; the same one may come twice."""
        if self.is_box:
            half_height = self.metres * (self.height / 2)
            half_width = self.metres * (self.width / 2)
            half = sqrt((self.width / 2) * (self.width / 2) + (self.height / 2) * (self.height / 2))
            reach = half * self.metres
        else:
            half_height = half_width = self.metres * self.radius
            reach = self.radius * self.metres
        up = half_height / EARTH_RADIUS_M / _RADIANS
        # Meridians are nearer to each other at that edge of the shape which is nearer to a pole.
        edge = self.latitude - up if self.latitude < 0 else self.latitude + up
        aside = half_width / EARTH_RADIUS_M / _cosine(edge * _RADIANS) / _RADIANS
        south, north = self.latitude - up, self.latitude + up
        west, east = self.longitude - aside, self.longitude + aside

        step = _step_for(reach, self.latitude)
        cell = self._cell(step)
        around = _around(cell)
        if step > 1 and (
            Cell(around[1], step).latitude_max < north
            or Cell(around[2], step).latitude_min > south
            or Cell(around[3], step).longitude_max < east
            or Cell(around[4], step).longitude_min > west
        ):
            step -= 1
            cell = self._cell(step)
            around = _around(cell)
        useless: set[int] = set()
        if step >= 2:
            if cell.latitude_min < south:
                useless.update((2, 7, 8))
            if cell.latitude_max > north:
                useless.update((1, 5, 6))
            if cell.longitude_min < west:
                useless.update((4, 6, 8))
            if cell.longitude_max > east:
                useless.update((3, 5, 7))
        cells: list[Cell] = []
        last = 0
        for index in range(9):
            if index in useless:
                continue
            # Huge shapes: neighbours may be the same cell. The first one is not compared with, as there.
            if last != 0 and around[index] == around[last]:
                continue
            cells.append(Cell(around[index], step))
            last = index
        return cells

    def _cell(self, step: int) -> Cell:
        return Cell(_bits(self.longitude, self.latitude, LATITUDE_MIN, LATITUDE_MAX, step), step)


def _step_for(reach_m: float, latitude: float) -> int:
    """How many bits a side a cell may have whose neighbours cover that many metres around it."""
    if reach_m == 0.0:
        return STEP_MAX
    step = 1
    while reach_m < _MERCATOR_MAX_M:
        reach_m *= 2
        step += 1
    step -= 2
    # Cells are narrower towards the poles.
    if latitude > 66 or latitude < -66:
        step -= 1
        if latitude > 80 or latitude < -80:
            step -= 1
    return min(max(step, 1), STEP_MAX)


def _around(cell: Cell) -> list[int]:
    """A cell and its neighbours: N, S, E, W, NE, NW, SE, SW."""
    bits = cell.bits
    step = cell.step
    north = _moved(bits, step, 0, 1)
    south = _moved(bits, step, 0, -1)
    return [
        bits,
        north,
        south,
        _moved(bits, step, 1, 0),
        _moved(bits, step, -1, 0),
        _moved(north, step, 1, 0),
        _moved(north, step, -1, 0),
        _moved(south, step, 1, 0),
        _moved(south, step, -1, 0),
    ]


def _moved(bits: int, step: int, east: int, north: int) -> int:
    """The cell so many columns and rows away, around the globe."""
    columns = bits & _ODD
    rows = bits & _EVEN
    low_even = _EVEN >> (64 - 2 * step)
    low_odd = _ODD >> (64 - 2 * step)
    # Adding carries through the other dimension's bits when those are set.
    if east != 0:
        columns = columns + low_even + 1 if east > 0 else (columns | low_even) - (low_even + 1)
        columns &= low_odd
    if north != 0:
        rows = rows + low_odd + 1 if north > 0 else (rows | low_odd) - (low_odd + 1)
        rows &= low_even
    return columns | rows
