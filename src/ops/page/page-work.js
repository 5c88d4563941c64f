// The buttons, what they started, and what came of it.
import { ask, download } from './page-call.js'
import { at, button, bytes, draw, make, percent, row, say, span } from './page-dom.js'

const KINDS = { 'heap-snapshot': 'Heap snapshot', 'heap-profile': 'Heap profile', 'cpu-profile': 'CPU profile' }

/** Jobs whose end nobody has been told of. */
const running = new Map()

let scopes = new Set()
/** Looks again: something has happened. */
let changed = () => {}

function said(text, bad = false) {
  say(at('said'), text)
  at('said').classList.toggle('bad', bad)
}

/**
 * Asks before what costs somebody something.
 *
 * @param choices Check boxes: name and label.
 * @returns What was chosen, or nothing.
 */
async function sure(title, text, choices = []) {
  const dialog = at('sure')
  say(at('sure-title'), title)
  say(at('sure-text'), text)
  say(at('sure-yes'), title)
  const boxes = choices.map(([name, label]) => {
    const box = make('input', '', { type: 'checkbox', name })
    const whole = make('label')
    whole.append(box, ` ${label}`)
    return { name, box, whole }
  })
  at('sure-choices').replaceChildren(...boxes.map(({ whole }) => whole))
  dialog.returnValue = 'no'
  dialog.showModal()
  await new Promise(resolve => dialog.addEventListener('close', resolve, { once: true }))
  return dialog.returnValue === 'yes' ? Object.fromEntries(boxes.map(({ name, box }) => [name, box.checked])) : undefined
}

/** Not `disabled`: whoever has pressed it with the keyboard stays on it. */
const busy = (pressed, is) => pressed.setAttribute('aria-disabled', String(is))

async function act(pressed, title, run) {
  if (pressed.getAttribute('aria-disabled') === 'true') return
  busy(pressed, true)
  try {
    const text = await run(() => said(`${title} …`))
    if (text !== undefined) said(`${title.replace('?', '')}: ${text}`)
  } catch (error) {
    said(`${title}: ${error.message}${error.code ? ` (${error.code})` : ''}.`, true)
  } finally {
    busy(pressed, false)
    changed()
  }
}

/** A button of the page. @param run Gets what says that it has begun; returns what to say, or nothing when it was not done. */
function on(id, run) {
  const pressed = at(id)
  pressed.addEventListener('click', () => void act(pressed, pressed.textContent, run))
}

async function start(path, begun) {
  begun()
  const { id, kind } = await ask(path, { method: 'POST' })
  running.set(id, kind)
  return 'it has begun.'
}

on('snapshot', async begun => {
  const { need, available, fits, pauseMs, usedHeap, canIsolate } = await ask('/heap/estimate')
  const first = canIsolate ? 'The process leaves rotation, finishes what is in flight, and then' : 'There is no server to take out of rotation: the process'
  const room = fits ? `It needs about ${bytes(need)} of memory, and ${bytes(available)} are there.` : `It needs about ${bytes(need)} of memory, and only ${bytes(available)} are there: it will be refused.`
  const choice = await sure(at('snapshot').textContent, `${first} stands still for about ${span(pauseMs)}, with ${bytes(usedHeap)} of heap. ${room} The file is redacted.`,
    [['after', 'Wait for the next major GC (minutes, in a quiet process)']])
  return choice && start(`/heap/snapshots?when=${choice.after ? 'after-gc' : 'now'}&isolate=${canIsolate}`, begun)
})
on('heap-profile', begun => start('/heap/profile?seconds=10', begun))
on('cpu-profile', begun => start('/cpu/profile?seconds=10', begun))

function stackText({ state, frames, reason }) {
  if (state === 'idle') return 'Nothing: it waits for events.'
  if (state !== 'running') return `${state === 'native' ? 'It is in native code, or stopped' : 'That cannot be told'}: ${reason}.`
  return frames.map(({ function: name, file, line, column, async }) => `${async ? 'async ' : ''}${name}  ${file}:${line}:${column}`).join('\n')
}

on('stack', async begun => {
  begun()
  const report = await ask('/stack', { method: 'POST' })
  at('stack-text').hidden = false
  say(at('stack-text'), stackText(report))
  return `the main thread at ${new Date(report.takenAt).toLocaleTimeString()}, below.`
})
on('collect', async begun => {
  begun()
  const { before, after, pauseMs } = await ask('/gc', { method: 'POST', timeoutMs: 0 })
  return `${bytes(before.used)} of heap before, ${bytes(after.used)} after; it stood still for ${span(pauseMs)}.`
})

on('lameduck', async begun => {
  if (!await sure(at('lameduck').textContent, 'Readiness fails, and what comes is still served, until it is put back.')) return undefined
  begun()
  await ask('/lameduck', { method: 'POST' })
  return 'done.'
})
on('resume', async begun => {
  begun()
  await ask('/resume', { method: 'POST' })
  return 'done.'
})
on('drain', async begun => {
  const choice = await sure(at('drain').textContent, 'It leaves rotation for good, answers what is in flight, and closes its connections and this endpoint.',
    [['exit', 'Then end the process (SIGTERM)']])
  if (!choice) return undefined
  begun()
  const { outcome, durationMs, served } = await ask(`/drain?exit=${choice.exit}`, { method: 'POST', timeoutMs: 0 })
  return `${outcome}, in ${span(durationMs)}; ${served} served.`
})

/** What can be done in this state. @param state None: there is no server. */
export function showRotation(state) {
  at('rotation').hidden = state === undefined
  const fit = { lameduck: ['running'], resume: ['lameduck'], drain: ['running', 'lameduck'] }
  for (const [id, states] of Object.entries(fit)) busy(at(id), !states.includes(state))
}

function tellEnds(jobs) {
  for (const { id, kind, state, problem, result } of jobs) {
    if (!running.has(id) || state === 'running') continue
    running.delete(id)
    const { bytes: size } = result?.artifact ?? result ?? {}
    const file = size === undefined ? '' : `: ${bytes(size)}, listed below`
    said(`${KINDS[kind] ?? kind}: ${problem ? `${problem.detail} (${problem.code})` : `${state}${file}`}.`, state === 'failed')
  }
}

function progressOf({ state, phase, progress, problem }) {
  if (state !== 'running') return problem?.detail ?? ''
  if (progress === undefined) return phase
  const whole = make('span', `${phase} `)
  whole.append(make('progress', '', { max: 1, value: progress, 'aria-label': phase }), ` ${percent(progress)}`)
  return whole
}

function cancelOf({ id, kind, state }) {
  if (state !== 'running' || !scopes.has('diag')) return ''
  const made = button('Cancel', id, `Cancel: ${KINDS[kind] ?? kind}`, () => void act(made, 'Cancel', async () => {
    await ask(`/jobs/${encodeURIComponent(id)}`, { method: 'DELETE' })
    return 'it ends as soon as it can.'
  }))
  return made
}

function filesOf(artifact) {
  const { name, secret } = artifact
  if (!scopes.has('diag')) return 'needs the scope diag'
  if (secret && !scopes.has('secrets')) return 'needs the scope secrets'
  const both = make('span', '', { class: 'buttons' })
  const fetched = button('Download', `get ${name}`, `Download ${name}`, () => void act(fetched, 'Download', async () => {
    await download(artifact)
    return name
  }))
  const deleted = button('Delete', `delete ${name}`, `Delete ${name}`, () => void act(deleted, 'Delete', async () => {
    if (!await sure('Delete', name)) return undefined
    await ask(`/artifacts/${encodeURIComponent(name)}`, { method: 'DELETE' })
    return name
  }))
  both.append(fetched, deleted)
  return both
}

/** @returns Whether something is under way. */
export function showWork(jobs, artifacts) {
  tellEnds(jobs)
  at('jobs-table').hidden = jobs.length === 0
  const last = jobs.slice(-8).toReversed()
  draw(at('jobs'), last, () => last.map(job => row([make('th', KINDS[job.kind] ?? job.kind, { scope: 'row' }), job.by, job.state, progressOf(job), cancelOf(job)])))
  at('artifacts-table').hidden = artifacts.length === 0
  draw(at('artifacts'), artifacts, () => artifacts.map(artifact => row([
    make('th', artifact.name, { scope: 'row' }), bytes(artifact.bytes), new Date(artifact.createdAt).toLocaleTimeString(), artifact.by, artifact.secret ? 'live strings' : 'redacted or none', filesOf(artifact),
  ])))
  return jobs.some(({ state }) => state === 'running')
}

/** Shows what this caller may do, and says what not. */
export function allow(name, given, onChange) {
  scopes = new Set(given)
  changed = onChange
  said('')
  for (const element of document.querySelectorAll('[data-scope]')) element.hidden = !scopes.has(element.dataset.scope)
  for (const element of document.querySelectorAll('[data-without]')) {
    const { without } = element.dataset
    element.hidden = scopes.has(without)
    say(element, `This needs the scope ${without}, which ${name} does not have.`)
  }
}
