"""US Eastern wall clock <-> UTC as plain integer arithmetic, callable from kernels and from Python alike.

The feed stamps everything with Eastern wall time and no zone. Rules: Energy Policy Act of 2005 (from 2007: second
Sunday of March 02:00 to first Sunday of November 02:00) and its predecessor (1987-2006: first Sunday of April to last
Sunday of October); earlier years follow the 1987 rule, which is not exact there. Days count from 1970-01-01; a local
time is microseconds of the wall clock since 1970-01-01 00:00 Eastern.

No time zone database is read, so that kernels need none; a test compares with `zoneinfo`.
"""

from __future__ import annotations

from numba import njit

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
SWITCH_US = 2 * HOUR_US  # both changes happen at 02:00 of the wall clock then in force
STANDARD_US = 5 * HOUR_US  # EST = UTC-5
DAYLIGHT_US = 4 * HOUR_US  # EDT = UTC-4


@njit(cache=True)
def days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a proleptic Gregorian date (Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    y = year - 1 if month <= 2 else year
    era = y // 400
    yoe = y - era * 400
    shifted = month - 3 if month > 2 else month + 9
    doy = (153 * shifted + 2) // 5 + day - 1
    doe = yoe * 365 + yoe // 4 - yoe // 100 + doy
    return era * 146_097 + doe - 719_468


@njit(cache=True)
def civil_from_days(days: int) -> tuple[int, int, int]:
    """(year, month, day) of a day number; the inverse of `days_from_civil`."""
    z = days + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    day = doy - (153 * mp + 2) // 5 + 1
    month = mp + 3 if mp < 10 else mp - 9
    year = yoe + era * 400
    return (year + 1 if month <= 2 else year), month, day


@njit(cache=True)
def month_length(year: int, month: int) -> int:
    """Days in a month."""
    if month == 2:
        leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        return 29 if leap else 28
    if month in (4, 6, 9, 11):
        return 30
    return 31


@njit(cache=True)
def _sunday_from(days: int) -> int:
    """The first Sunday on or after a day."""
    return days + (6 - (days + 3) % 7) % 7  # 1970-01-01 was a Thursday; Monday = 0


@njit(cache=True)
def daylight_days(year: int) -> tuple[int, int]:
    """Day numbers on which daylight time begins and ends in a year."""
    if year >= 2007:
        return _sunday_from(days_from_civil(year, 3, 8)), _sunday_from(days_from_civil(year, 11, 1))
    return _sunday_from(days_from_civil(year, 4, 1)), _sunday_from(days_from_civil(year, 10, 25))


@njit(cache=True)
def day_rule(days: int) -> int:
    """How a day's wall clock runs: 0 standard, 1 daylight, 2 daylight begins that night, 3 it ends that night."""
    year, _, _ = civil_from_days(days)
    begins, ends = daylight_days(year)
    if days < begins or days > ends:
        return 0
    if days == begins:
        return 2
    if days == ends:
        return 3
    return 1


@njit(cache=True)
def local_to_utc_us(local_us: int, near_us: int, rule: int) -> int:
    """UTC microseconds of an Eastern wall time whose day follows `rule` (see `day_rule`).

    The hour that happens twice in November is settled by `near_us` (receipt, UTC): the reading closer to it wins,
    the earlier one on a tie. The hour that does not exist in March is read as standard time.
    """
    if rule == 0:
        return local_us + STANDARD_US
    if rule == 1:
        return local_us + DAYLIGHT_US
    tod = local_us % DAY_US
    if rule == 2:
        return local_us + (STANDARD_US if tod < SWITCH_US + HOUR_US else DAYLIGHT_US)
    if tod < HOUR_US:
        return local_us + DAYLIGHT_US
    if tod >= SWITCH_US:
        return local_us + STANDARD_US
    early, late = local_us + DAYLIGHT_US, local_us + STANDARD_US
    return late if abs(late - near_us) < abs(early - near_us) else early


@njit(cache=True)
def eastern_to_utc_us(local_us: int, near_us: int) -> int:
    """UTC microseconds of an Eastern wall time; see `local_to_utc_us` for the hours that are not one to one."""
    return local_to_utc_us(local_us, near_us, day_rule(local_us // DAY_US))


@njit(cache=True)
def utc_to_eastern_us(utc_us: int) -> int:
    """Eastern wall time (microseconds since 1970-01-01 00:00 of that wall clock) of a UTC instant."""
    standard = utc_us - STANDARD_US
    rule = day_rule(standard // DAY_US)
    tod = standard % DAY_US
    if rule == 1 or (rule == 2 and tod >= SWITCH_US) or (rule == 3 and tod < HOUR_US):
        return standard + HOUR_US
    return standard


def warm() -> None:
    """Compile every function here for 64-bit integers."""
    eastern_to_utc_us(utc_to_eastern_us(0), 0)
    month_length(1970, 1)
