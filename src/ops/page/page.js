// The page of the maintenance endpoint: no framework, nothing from elsewhere. The token is in this closure only.
'use strict'
{
  const POLL_MS = 2_000
  let token = ''
  let timer = 0

  const at = id => document.getElementById(id)
  const bytes = n => (n >= 2 ** 30 ? `${(n / 2 ** 30).toFixed(1)} GB` : n >= 2 ** 20 ? `${(n / 2 ** 20).toFixed(1)} MB` : n >= 1_024 ? `${(n / 1_024).toFixed(1)} kB` : `${n} B`)
  const span = ms => (ms < 1_000 ? `${Math.round(ms)} ms` : ms < 120_000 ? `${(ms / 1_000).toFixed(1)} s` : ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`)

  /** Relative, so that it works under any prefix. */
  async function call(path, method = 'GET', body) {
    const response = await fetch(path.slice(1), {
      method,
      headers: { Authorization: `Bearer ${token}`, ...(body !== undefined && { 'Content-Type': 'application/json' }) },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      cache: 'no-store',
      credentials: 'omit',
    })
    const json = (response.headers.get('content-type') ?? '').includes('json') ? await response.json() : undefined
    if (!response.ok) throw Object.assign(new Error(json?.detail ?? response.statusText), { status: response.status, code: json?.code })
    return json
  }

  const cell = content => {
    const td = document.createElement('td')
    td.append(content)
    return td
  }
  const row = cells => {
    const tr = document.createElement('tr')
    tr.append(...cells.map(cell))
    return tr
  }
  const button = (label, run) => {
    const made = document.createElement('button')
    made.textContent = label
    made.addEventListener('click', run)
    return made
  }

  /** Name, bar, figure: for each entry. */
  function bars(target, entries, show) {
    const most = Math.max(1e-9, ...entries.map(([, value]) => value))
    target.replaceChildren(...entries.flatMap(([name, value]) => {
      const label = document.createElement('span')
      label.textContent = name
      const meter = document.createElement('meter')
      meter.max = most
      meter.value = value
      meter.setAttribute('aria-label', name)
      const figure = document.createElement('span')
      figure.textContent = show(value)
      return [label, meter, figure]
    }))
  }

  function showState({ state, memory, loop, uptimeMs, blockedMs, asOfMs, pause }) {
    const badge = at('badge')
    badge.hidden = false
    badge.textContent = state ?? 'no server'
    badge.classList.toggle('out', state !== undefined && state !== 'running')
    at('heap').textContent = `${bytes(memory.heapUsed)} of ${bytes(memory.heapLimit)}`
    at('rss').textContent = bytes(memory.rss)
    at('delay').textContent = span(loop.p99)
    at('uptime').textContent = span(uptimeMs)
    at('stale').textContent = pause ? `It stands still for a ${pause.what}. What is shown is ${span(asOfMs)} old.`
      : blockedMs > 0 ? `The main thread has been blocked for ${span(blockedMs)}. What is shown is ${span(asOfMs)} old.` : ''
  }

  function showConnections({ state, connections = {}, inFlight }) {
    const { total = 0, ...byState } = connections
    at('connections').textContent = total
    at('inflight').textContent = inFlight.length
    bars(at('states'), Object.entries(byState), String)
    at('holding-title').textContent = state === undefined || state === 'running' ? 'Requests in flight' : 'Who is holding the drain'
    at('requests').replaceChildren(...inFlight.slice(0, 200).map(({ method, path, ageMs, remote = 'unix', bytesRead, bytesWritten }) =>
      row([`${method} ${path}`, span(ageMs), remote, bytes(bytesRead), bytes(bytesWritten)])))
    if (inFlight.length === 0) at('requests').replaceChildren(row(['none', '', '', '', '']))
  }

  function showGc({ majors = [], totals = {} }) {
    const points = majors.filter(({ after }) => after?.used !== undefined).map(({ after }) => after.used)
    const svg = at('trend')
    for (const path of svg.querySelectorAll('path')) path.remove()
    if (points.length > 1) {
      const [low, high] = [Math.min(...points) * .98, Math.max(...points) * 1.02]
      const x = i => (i / (points.length - 1)) * 600
      const y = value => 155 - ((value - low) / (high - low || 1)) * 150
      const path = document.createElementNS('http://www.w3.org/2000/svg', 'path')
      path.setAttribute('d', points.map((value, i) => `${i === 0 ? 'M' : 'L'}${x(i).toFixed(1)} ${y(value).toFixed(1)}`).join(' '))
      svg.append(path)
    }
    const last = points.at(-1)
    at('trend-caption').textContent = last === undefined ? 'No major GC yet.' : `${bytes(last)} after the last of ${points.length}; from ${bytes(Math.min(...points))} to ${bytes(Math.max(...points))}.`
    bars(at('pauses'), Object.entries(totals).map(([kind, { pauseMs }]) => [kind, pauseMs]), span)
  }

  function showLeaks({ verdict, summary }) {
    at('verdict').textContent = `Leak watch: ${summary ?? verdict}`
    at('verdict').classList.toggle('bad', verdict === 'suspected')
  }

  async function download({ name, encoding }) {
    const response = await fetch(`artifacts/${encodeURIComponent(name)}`, { headers: { Authorization: `Bearer ${token}` }, cache: 'no-store', credentials: 'omit' })
    if (!response.ok) return said(`${name}: ${response.status}`, true)
    const link = document.createElement('a')
    link.href = URL.createObjectURL(await response.blob())
    // The browser has taken a content coding off; a file that is compressed by itself keeps its name.
    link.download = encoding === 'gzip' && response.headers.get('content-encoding') === 'gzip' ? name.replace(/\.gz$/, '') : name
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
    return undefined
  }

  function showWork(jobs, artifacts) {
    at('jobs-table').hidden = jobs.length === 0
    at('jobs').replaceChildren(...jobs.slice(-8).toReversed().map(({ kind, by, state, phase, progress, problem }) =>
      row([kind, by, state, problem?.detail ?? `${phase}${progress === undefined ? '' : ` ${Math.round(progress * 100)} %`}`])))
    at('artifacts-table').hidden = artifacts.length === 0
    at('artifacts').replaceChildren(...artifacts.map(artifact =>
      row([artifact.name, bytes(artifact.bytes), new Date(artifact.createdAt).toLocaleTimeString(), artifact.by, button('Download', () => void download(artifact))])))
  }

  function said(text, bad = false) {
    at('said').textContent = text
    at('said').classList.toggle('bad', bad)
  }

  const list = (answer, key) => (Array.isArray(answer) ? answer : answer?.[key] ?? [])

  /** What a scope does not allow is left out, and not an error. */
  const optional = path => call(path).catch(error => {
    if (error.status === 401) throw error
    return undefined
  })

  async function look() {
    clearTimeout(timer)
    try {
      const [state, connections, gc, leaks, jobs, artifacts] = await Promise.all([call('/state'), call('/connections'), ...['/gc', '/leaks', '/jobs', '/artifacts'].map(optional)])
      showState(state)
      showConnections(connections)
      if (gc) showGc(gc)
      if (leaks) showLeaks(leaks)
      showWork(list(jobs, 'jobs'), list(artifacts, 'artifacts'))
    } catch (error) {
      if (error.status === 401) return leave('This token is not, or no longer, one of this endpoint.')
      at('stale').textContent = `No answer: ${error.message}`
    }
    timer = setTimeout(() => void look(), POLL_MS)
    return undefined
  }

  function leave(why) {
    token = ''
    at('all').hidden = true
    at('login').hidden = false
    at('refused').textContent = why
    at('token').focus()
  }

  /** Asks before what costs somebody something. */
  async function sure(title, text) {
    const dialog = at('sure')
    at('sure-title').textContent = title
    at('sure-text').textContent = text
    dialog.returnValue = 'no'
    dialog.showModal()
    await new Promise(resolve => dialog.addEventListener('close', resolve, { once: true }))
    return dialog.returnValue === 'yes'
  }

  async function act(pressed, run) {
    const { ask } = pressed.dataset
    if (ask && !await sure(pressed.textContent, ask)) return
    pressed.disabled = true
    said(`${pressed.textContent} …`)
    try {
      said(await run() ?? `${pressed.textContent}: done.`)
    } catch (error) {
      said(`${pressed.textContent}: ${error.message}${error.code ? ` (${error.code})` : ''}`, true)
    } finally {
      pressed.disabled = false
      void look()
    }
  }

  at('login').addEventListener('submit', async event => {
    event.preventDefault()
    token = at('token').value.trim()
    try {
      const { application = {}, pid, node, hostname } = await call('/info')
      at('name').textContent = application.name ?? 'Maintenance'
      at('process').textContent = `${application.version ?? ''} pid ${pid} on ${hostname}, Node ${node}`.trim()
      document.title = `${application.name ?? 'process'} ${pid} · lameduck`
      at('token').value = ''
      at('refused').textContent = ''
      at('login').hidden = true
      at('all').hidden = false
      await look()
    } catch (error) {
      leave(error.status === 401 ? 'This is not a token of this endpoint.' : error.message)
    }
  })

  for (const pressed of document.querySelectorAll('[data-job]')) {
    pressed.addEventListener('click', () => void act(pressed, async () => {
      const job = await call(pressed.dataset.job, 'POST')
      return `${pressed.textContent}: job ${job.id} has begun; its file will be listed below.`
    }))
  }
  for (const pressed of document.querySelectorAll('[data-verb]')) {
    pressed.addEventListener('click', () => void act(pressed, async () => {
      const { state, outcome } = await call(pressed.dataset.verb, 'POST')
      return `${pressed.textContent}: ${outcome ?? state}.`
    }))
  }
  at('stack').addEventListener('click', () => void act(at('stack'), async () => {
    const { busy, frames = [] } = await call('/stack', 'POST')
    at('stack-text').hidden = false
    at('stack-text').textContent = busy === false ? 'Nothing: the main thread is idle.'
      : frames.map(frame => `${frame.function || '(anonymous)'}  ${frame.file ?? frame.url}:${frame.line}:${frame.column}`).join('\n')
    return 'The stack of the main thread, at that moment:'
  }))
  at('collect').addEventListener('click', () => void act(at('collect'), async () => {
    const { before, after } = await call('/gc', 'POST')
    return `Heap ${bytes(before.used)} before, ${bytes(after.used)} after.`
  }))
}
