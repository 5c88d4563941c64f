// The page of the maintenance endpoint: no framework, nothing from elsewhere.
import { ask, hold } from './page-call.js'
import { at, say, span } from './page-dom.js'
import { showGc, showLeaks } from './page-memory.js'
import { showConnections, showState } from './page-state.js'
import { allow, showRotation, showWork } from './page-work.js'

/** Shorter than the endpoint keeps an idle connection. */
const LOOK_MS = 1_500
/** What changes slowly is asked for each so many looks. */
const SELDOM = 5
/** An answer that takes longer than this is missed. */
const PATIENCE_MS = 1_500

let inside = false
let timer = 0
let looks = 0
/** Something was done while it was looking: what it saw may be older. */
let outdated = false
/** What was seen last, when, and how old it was then. */
let seen
/** Since when there is a question without an answer, and what became of the last one. */
let asking
let failed = ''

/** What a scope does not allow is left out, and not an error. */
const optional = (section, path, show) => ask(path).then(answer => {
  section.hidden = false
  show(answer)
}, error => {
  if (error.status !== 403 && error.status !== 404) throw error
  section.hidden = true
})

async function lookAtWork() {
  const { jobs } = await ask('/jobs')
  const { artifacts } = await ask('/artifacts')
  return showWork(jobs, artifacts)
}

/** Who it is may not be known yet, when the main thread was blocked as the page was opened. */
async function lookAtInfo() {
  const { application = {}, pid, node, hostname } = await ask('/info')
  say(at('name'), application.name ?? 'Maintenance')
  say(at('process'), `${application.version ?? ''} pid ${pid} on ${hostname}, Node ${node}`.trim())
  document.title = `${application.name ?? 'process'} ${pid} · lameduck`
}

/** One question after the other: the endpoint has few connections, and others may be looking, too. */
async function lookAll() {
  const state = await ask('/state')
  seen = { at: performance.now(), ...state }
  showState(state)
  showRotation(state.state)
  showConnections(await ask('/connections'))
  if (at('process').textContent === '' && state.blockedMs === 0) lookAtInfo().catch(() => {})
  if (looks++ % SELDOM > 0) return
  await optional(at('gc'), '/gc?last=100', showGc)
  await optional(at('leaks'), '/leaks', showLeaks)
  // While something is under way all of it is asked for each time.
  if (await lookAtWork()) looks = 0
}

async function look() {
  if (!inside || asking !== undefined || document.hidden) return
  clearTimeout(timer)
  asking = performance.now()
  try {
    await lookAll()
    failed = ''
  } catch (error) {
    if (error.status === 401 && inside) leave('This token is not, or no longer, one of this endpoint.')
    failed = error.status === undefined ? 'No answer from the endpoint.' : `The endpoint says: ${error.message}.`
  }
  asking = undefined
  tellAge()
  timer = setTimeout(() => void look(), outdated ? 0 : LOOK_MS)
  if (outdated) looks = 0
  outdated = false
}

/** What is shown is as old as it is: it says so whenever that is more than a moment. */
function tellAge() {
  if (!inside) return
  const now = performance.now()
  const { at: when = now, asOfMs = 0, blockedMs = 0, pause } = seen ?? {}
  const silent = failed !== '' || (asking !== undefined && now - (seen ? Math.max(asking, when) : asking) > PATIENCE_MS)
  const since = now - when
  const [what, age] = pause && !silent ? [`It stands still for a ${pause.what.replace('-', ' ')}.`, asOfMs + since]
    : blockedMs > 0 && !silent ? ['The main thread is blocked.', asOfMs + since]
      : silent ? [failed || 'No answer from the endpoint.', asOfMs + since] : ['', 0]
  say(at('stale-what'), what)
  const blocked = blockedMs > 0 && !silent ? `For ${span(blockedMs + since)}. ` : ''
  say(at('stale-age'), what === '' ? '' : seen ? `${blocked}What is shown is ${span(age)} old.` : '')
  at('stale').hidden = what === ''
  at('all').classList.toggle('old', what !== '')
}

/** Sees what has been done. */
function again() {
  looks = 0
  outdated = asking !== undefined
  void look()
}

function leave(why = '') {
  hold('')
  inside = false
  seen = undefined
  failed = ''
  clearTimeout(timer)
  for (const id of ['all', 'leave', 'badge']) at(id).hidden = true
  at('login').hidden = false
  for (const id of ['process', 'who']) say(at(id), '')
  say(at('name'), 'Maintenance')
  say(at('refused'), why)
  at('token').focus()
}

async function enter() {
  hold(at('token').value.trim())
  try {
    const { name, scopes } = await ask('/whoami')
    inside = true
    looks = 0
    at('token').value = ''
    say(at('refused'), '')
    say(at('who'), `${name}: ${scopes.join(', ')}`)
    allow(name, scopes, again)
    at('login').hidden = true
    for (const id of ['all', 'leave']) at(id).hidden = false
    at('name').focus()
    await look()
  } catch (error) {
    leave(error.status === 401 ? 'This is not a token of this endpoint.' : `${error.message}.`)
  }
}

at('login').addEventListener('submit', event => {
  event.preventDefault()
  void enter()
})
// With all that was shown.
at('leave').addEventListener('click', () => location.reload())
// Whoever comes back to it from the browser's history has to show the token again.
addEventListener('pagehide', () => leave())
document.addEventListener('visibilitychange', () => void look())
setInterval(tellAge, 500)
