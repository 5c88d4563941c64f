// What major GCs left, the leak watch's trend through it, and pauses.
import { at, bytes, draw, make, percent, row, say, span, svg } from './page-dom.js'

const SERIES = { usedHeap: 'Used heap', arrayBuffers: 'Buffers', external: 'External', rss: 'RSS' }
const FIELDS = { usedHeap: 'used', arrayBuffers: 'arrayBuffers', external: 'external', rss: 'rss' }
const KINDS = { minor: 'minor: young objects', major: 'major: all objects', incremental: 'begin of marking', weakcb: 'weak callbacks' }
const VERDICTS = { warming: 'too early to say', steady: 'no leak to be seen', watch: 'memory grows; watching', suspected: 'leak suspected' }

let gc = { majors: [] }
let leaks
/** Which series is drawn; none: the most telling. */
let chosen

const median = values => values.toSorted((a, b) => a - b)[values.length >> 1]

/** The slope of the leak watch is one number; where the line lies is the median of what it leaves of each point. */
function slopeOf({ window, evidence, perHour } = {}) {
  if (!window || !evidence || evidence.points.length < 2) return undefined
  const perMs = perHour / 3_600_000
  const { from, to } = window
  const base = median(evidence.points.map(([when, level]) => level - perMs * (when - from)))
  return [[from, base], [to, base + perMs * (to - from)]]
}

/** About four round values. */
function ticks(low, high) {
  const rough = (high - low) / 4
  const unit = 2 ** (10 * Math.max(0, Math.floor(Math.log2(Math.max(1, rough)) / 10)))
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000].map(step => step * unit)
  const step = steps.find(step => step >= rough) ?? rough
  return Array.from({ length: 8 }, (_, i) => (Math.ceil(low / step) + i) * step).filter(value => value <= high)
}

/** @returns Where a point of time and bytes is drawn. */
function scale(all, width, height) {
  const values = all.map(([, value]) => value)
  const times = all.map(([when]) => when)
  const [least, most] = [Math.min(...values), Math.max(...values)]
  // Noise of a few percent is to look like it.
  const room = Math.max(.05 * (most - least), (.3 * most - (most - least)) / 2)
  const [low, high] = [Math.max(0, least - room), most + room]
  const [from, to] = [Math.min(...times), Math.max(...times)]
  return {
    low, high, from, to,
    x: when => 70 + ((width - 80) * (when - from)) / Math.max(1, to - from),
    y: value => height - 24 - ((height - 34) * (value - low)) / Math.max(1, high - low),
  }
}

const line = (points, { x, y }, name) => svg('path', { class: name, d: points.map(([when, value], i) => `${i === 0 ? 'M' : 'L'}${x(when).toFixed(1)} ${y(value).toFixed(1)}`).join('') })

function axes(place, width, height) {
  const clock = when => new Date(when).toLocaleTimeString()
  const text = (value, x, y, anchor) => svg('text', { x, y, 'text-anchor': anchor }, value)
  return [
    ...ticks(place.low, place.high).flatMap(value => [
      svg('path', { class: 'grid', d: `M70 ${place.y(value)}H${width - 10}` }), text(bytes(value), 64, place.y(value) + 4, 'end'),
    ]),
    text(clock(place.from), 70, height - 4, 'start'),
    text(clock(place.to), width - 10, height - 4, 'end'),
  ]
}

function caption(name, points, slope) {
  if (points.length === 0) return 'No major GC yet.'
  const last = points.at(-1)
  const values = points.map(({ value }) => value)
  const trend = slope ? ` Dashed: ${bytes(leaks.series[name].perHour)} an hour, over ${leaks.series[name].window.gcs} GCs.` : ''
  const forced = points.some(({ forced }) => forced) ? ' Hollow: we made it collect.' : ''
  return `${SERIES[name]}: ${bytes(last.value)} after the last of ${points.length} major GCs; ${bytes(Math.min(...values))} to ${bytes(Math.max(...values))}.${trend}${forced}`
}

function drawTrend() {
  const name = chosen ?? leaks?.growing[0] ?? 'usedHeap'
  at('series').value = name
  const points = gc.majors.map(({ at: when, after, forced }) => ({ when, forced, value: after[FIELDS[name]] })).filter(({ value }) => value !== undefined)
  const report = leaks?.series[name]
  const slope = slopeOf(report)
  const levels = report?.evidence?.points ?? []
  const figure = at('trend')
  const [width, height] = [Math.max(280, figure.clientWidth), 220]
  say(at('trend-caption'), caption(name, points, slope))
  figure.setAttribute('viewBox', `0 0 ${width} ${height}`)
  const natural = points.filter(({ forced }) => !forced).map(({ when, value }) => [when, value])
  const all = [...points.map(({ when, value }) => [when, value]), ...levels, ...(slope ?? [])]
  const title = figure.querySelector('title')
  if (all.length === 0) return figure.replaceChildren(title)
  const place = scale(all, width, height)
  const dots = points.map(({ when, value, forced }) => svg('circle', { class: forced ? 'forced' : 'gc', cx: place.x(when).toFixed(1), cy: place.y(value).toFixed(1), r: 3 }))
  return figure.replaceChildren(title, ...axes(place, width, height), line(natural, place, 'gcs'), ...(levels.length > 1 ? [line(levels, place, 'levels')] : []), ...dots,
    ...(slope ? [line(slope, place, `slope ${report.verdict}`)] : []))
}

/** How many pauses fell into each class of the histogram; roots, so that one long pause among thousands is seen. */
function classes({ classes: counts }, bounds, kind) {
  const used = counts.findLastIndex(count => count > 0)
  const first = counts.findIndex(count => count > 0)
  const most = Math.sqrt(Math.max(...counts))
  const words = counts.flatMap((count, i) => (count > 0 ? [`${count} ${i < bounds.length ? `up to ${span(bounds[i])}` : `over ${span(bounds.at(-1))}`}`] : []))
  const figure = svg('svg', { class: 'classes', viewBox: '0 0 126 28', role: 'img', 'aria-label': `Pauses, ${KINDS[kind] ?? kind}: ${words.join(', ')}` })
  for (const [i, count] of counts.entries()) {
    const tall = count === 0 ? 0 : Math.max(2, (27 * Math.sqrt(count)) / most)
    const bar = svg('rect', { class: i < first || i > used ? 'none' : '', x: i * 7, y: 28 - Math.max(1, tall), width: 6, height: Math.max(1, tall) })
    bar.append(svg('title', {}, `${count} ${i < bounds.length ? `up to ${span(bounds[i])}` : `over ${span(bounds.at(-1))}`}`))
    figure.append(bar)
  }
  return figure
}

export function showGc(answer) {
  gc = answer
  const { source, pauses, boundsMs } = answer
  const kinds = Object.entries(pauses)
  say(at('gc-source'), source.source ? `As ${source.source} tells, since ${new Date(answer.since).toLocaleTimeString()}; shares are upper bounds.` : `Not known: ${source.why}.`)
  at('pauses-table').hidden = kinds.length === 0
  draw(at('pauses'), pauses, () => kinds.map(([kind, counts]) => row([
    make('th', KINDS[kind] ?? kind, { scope: 'row' }), String(counts.count), span(counts.p50Ms), span(counts.p99Ms), span(counts.maxMs), span(counts.sumMs), classes(counts, boundsMs, kind),
  ])))
  drawTrend()
}

function grownText({ problem, stacks, to }) {
  if (problem) return `Profiles of what grows: ${problem}`
  if (to === undefined) return 'Profiles of what grows are being taken.'
  if (stacks.length === 0) return 'Between two heap profiles nothing grew that the sampling saw.'
  const text = ({ grew, stack }) => `${bytes(grew)} more, still held, from\n${stack.slice(0, 8).map(frame => `  ${frame}`).join('\n')}`
  return `What grew between two heap profiles:\n${stacks.map(text).join('\n')}`
}

export function showLeaks(answer) {
  leaks = answer
  const { verdict, series, grown, gcs, forced } = answer
  say(at('verdict'), `Leak watch: ${VERDICTS[verdict] ?? verdict}.`)
  at('verdict').className = verdict
  say(at('watched'), `${gcs} major GCs seen${forced > 0 ? `, ${forced} of them forced and left out` : ''}.`)
  draw(at('watch'), series, () => Object.entries(series).map(([name, { verdict, level, perGc, perHour, confidence, reason, window }]) => row([
    make('th', SERIES[name] ?? name, { scope: 'row' }), make('td', verdict, { class: verdict }), level > 0 ? bytes(level) : '–', ...(window ? [bytes(perGc), bytes(perHour), percent(confidence)] : ['', '', '']), reason,
  ])))
  at('grown').hidden = !grown
  if (grown) say(at('grown'), grownText(grown))
  drawTrend()
}

at('series').append(...Object.entries(SERIES).map(([value, name]) => make('option', name, { value })))
at('series').addEventListener('change', () => {
  chosen = at('series').value
  drawTrend()
})
new ResizeObserver(() => drawTrend()).observe(at('trend').parentElement)
