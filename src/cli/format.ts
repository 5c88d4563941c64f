const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** `388.1 MiB` */
export function bytes(count: number): string {
  let [value, unit] = [Math.abs(count), 0]
  while (value >= 1_024 && unit < UNITS.length - 1) {
    value /= 1_024
    unit++
  }
  return `${count < 0 ? '-' : ''}${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`
}

/** `12.3 ms`, `4.5 s`, `3m 20s`, `2h 05m`, `3d 04h` */
export function duration(ms: number): string {
  if (ms < 0) return `-${duration(-ms)}`
  if (ms < 1_000) return `${Number.isInteger(ms) ? ms : ms.toFixed(ms < 10 ? 2 : 1)} ms`
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`
  const seconds = Math.floor(ms / 1_000)
  const two = (value: number) => String(value).padStart(2, '0')
  const [minutes, hours, days] = [Math.floor(seconds / 60), Math.floor(seconds / 3_600), Math.floor(seconds / 86_400)]
  if (hours === 0) return `${minutes}m ${two(seconds % 60)}s`
  return days === 0 ? `${hours}h ${two(minutes % 60)}m` : `${days}d ${two(hours % 24)}h`
}

export function percent(fraction: number): string {
  return `${(fraction * 100).toFixed(1)} %`
}

const BARS = '▁▂▃▄▅▆▇█'

/** A row of numbers as a picture, from the least to the most of them. More than `width` are thinned out. */
export function sparkline(values: readonly number[], width = 40): string {
  if (values.length === 0) return ''
  const step = Math.max(1, values.length / width)
  const shown = Array.from({ length: Math.min(values.length, width) }, (_, i) => values[Math.floor(i * step)] ?? 0)
  const [least, most] = [Math.min(...shown), Math.max(...shown)]
  return shown.map(value => BARS[most === least ? 0 : Math.round((value - least) / (most - least) * (BARS.length - 1))]).join('')
}

/** `[#####-----]  50 %` */
export function bar(fraction: number, width = 24): string {
  const part = Math.min(1, Math.max(0, fraction))
  const full = Math.round(part * width)
  return `[${'#'.repeat(full)}${'-'.repeat(width - full)}] ${String(Math.floor(part * 100)).padStart(3)} %`
}

// oxlint-disable-next-line no-control-regex
const HIDDEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g

/** Text from outside (a URL, a logger's name) as it may go to a terminal, lines and tabs kept: no escape sequence of a stranger's. */
export function harmless(text: string): string {
  return text.replace(HIDDEN, char => `\\x${(char.codePointAt(0) ?? 0).toString(16).padStart(2, '0')}`)
}

/** The same in one line. */
export function oneLine(text: string): string {
  return harmless(text).replaceAll(/[\n\t]/g, char => char === '\n' ? '\\n' : '\\t')
}

const DURATIONS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `500ms`, `30s`, `10m`, `2h`, `1d` as milliseconds; undefined when it is none. */
export function parseDuration(text: string): number | undefined {
  const [, value, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? []
  return value === undefined ? undefined : Math.round(Number(value) * (DURATIONS[unit] ?? 1))
}

const SIZES: Record<string, number> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }

/** `500000`, `512k`, `300M`, `1.5G` (powers of 1,024) as bytes; undefined when it is none. */
export function parseBytes(text: string): number | undefined {
  const [, value, unit = ''] = /^(\d+(?:\.\d+)?)([kmg]?)(?:i?b)?$/i.exec(text) ?? []
  return value === undefined ? undefined : Math.round(Number(value) * (SIZES[unit.toLowerCase()] ?? 1))
}
