// State, connections, event loop.
import { at, bars, bytes, draw, make, percent, row, say, span, svg } from './page-dom.js'

/** What the page has seen itself: about five minutes. */
const HISTORY = 200
const history = []

const NAMES = { running: 'in rotation', lameduck: 'out of rotation', draining: 'draining', drained: 'drained', aborted: 'aborted' }

/** Of what is in flight; otherwise it is just that. */
const TITLES = { lameduck: 'Still in flight, out of rotation', draining: 'Who is holding the drain', drained: 'Who is holding the drain' }

function spark(element, values, most) {
  const path = values.map((value, i) => `${i === 0 ? 'M' : 'L'}${((i * 300) / (HISTORY - 1)).toFixed(1)} ${(39 - (38 * value) / most).toFixed(1)}`).join('')
  element.replaceChildren(...element.querySelectorAll('title'), ...(values.length > 1 ? [svg('path', { d: path })] : []))
}

function showLoop({ p50, p90, p99, max, utilization }) {
  say(at('delay'), span(p99))
  say(at('work'), percent(utilization))
  bars(at('delays'), [['half of the time', p50], ['9 in 10', p90], ['99 in 100', p99], ['longest', max]], span)
}

function showReport(report) {
  const text = () => {
    const { outcome, reason, durationMs, served, rejected, refused, closed, destroyed } = report
    return `The last drain (${reason}): ${outcome}, in ${span(durationMs)}; served ${served}, rejected ${rejected}, refused ${refused}; connections closed ${closed}, destroyed ${destroyed.length}.`
  }
  say(at('report'), report ? text() : '')
}

export function showState({ state, memory, loop, uptimeMs, lastReport, blockedMs }) {
  const badge = at('badge')
  badge.hidden = state === undefined
  say(badge, NAMES[state] ?? '')
  badge.classList.toggle('out', state !== 'running')
  say(at('heap'), bytes(memory.heapUsed))
  say(at('heap-limit'), `of ${bytes(memory.heapLimit)}`)
  say(at('rss'), bytes(memory.rss))
  say(at('uptime'), span(uptimeMs))
  showLoop(loop)
  showReport(lastReport)
  // What a blocked main thread said last is not what it does now.
  if (blockedMs === 0 && history.push(loop.utilization) > HISTORY) history.shift()
  spark(at('works'), history, 1)
}

function holder({ method, path, ageMs, remote = 'unix socket', bytesRead, bytesWritten, state, count }) {
  if (state !== undefined) return row([make('th', `${count} ${count === 1 ? 'connection' : 'connections'}: ${state}`, { scope: 'row', colspan: 5 })])
  return row([make('th', `${method} ${path}`, { scope: 'row' }), span(ageMs), remote, bytes(bytesRead), bytes(bytesWritten)])
}

export function showConnections({ state, connections, inFlight, holding }) {
  for (const part of document.querySelectorAll('[data-server]')) part.hidden = state === undefined
  const { total = 0, ...byState } = connections ?? {}
  say(at('connections'), total)
  say(at('inflight'), inFlight.length)
  bars(at('states'), Object.entries(byState), String)
  const leaving = state !== undefined && state !== 'running'
  say(at('holding-title'), TITLES[state] ?? 'Requests in flight')
  const all = leaving ? holding : inFlight
  at('holding').hidden = all.length === 0
  say(at('holding-none'), all.length === 0 ? leaving ? 'Nobody.' : 'None.' : all.length > 200 ? `The oldest 200 of ${all.length}.` : '')
  draw(at('requests'), all, () => all.slice(0, 200).map(holder))
}
