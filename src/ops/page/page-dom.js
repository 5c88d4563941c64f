// What the parts of the page are made of. Text goes in as text, always: what a client sent must not become markup.

export const at = id => document.getElementById(id)

const UNITS = [[2 ** 30, 'GB'], [2 ** 20, 'MB'], [2 ** 10, 'kB']]

export function bytes(n) {
  const [size, unit] = UNITS.find(([size]) => Math.abs(n) >= size) ?? [1, 'B']
  return `${size === 1 ? n : (n / size).toFixed(1)} ${unit}`
}

export function span(ms) {
  if (ms < 10) return `${Number(ms.toFixed(2))} ms`
  if (ms < 1_000) return `${Math.round(ms)} ms`
  if (ms < 120_000) return `${(ms / 1_000).toFixed(1)} s`
  return ms < 7_200_000 ? `${Math.round(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`
}

export const percent = part => `${Math.round(part * 100)} %`

/** Only what is new: a live region would say it again, and again. */
export function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text
}

export function make(tag, text = '', attributes = {}) {
  const made = document.createElement(tag)
  made.append(text)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  return made
}

export function svg(tag, attributes, text = '') {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(text)
  return made
}

/** @param key What it is called among those of its table: whoever is on it with the keyboard stays there when the table is drawn anew. */
export function button(label, key, name, run) {
  const made = make('button', label, { type: 'button', 'data-key': key, 'aria-label': name })
  made.addEventListener('click', run)
  return made
}

export function row(cells) {
  const made = document.createElement('tr')
  made.append(...cells.map(content => (content instanceof HTMLTableCellElement ? content : make('td', content))))
  return made
}

const drawn = new WeakMap()

/** Draws what shows a value, if that has changed. */
export function draw(target, value, children) {
  const told = JSON.stringify(value)
  if (drawn.get(target) === told) return
  drawn.set(target, told)
  const { key } = target.contains(document.activeElement) ? document.activeElement.dataset : {}
  target.replaceChildren(...children())
  if (key !== undefined) target.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus()
}

/** A row for each entry: name, bar, figure. */
export function bars(target, entries, show) {
  const most = Math.max(1e-9, ...entries.map(([, value]) => value))
  draw(target, entries, () => entries.map(([name, value]) => {
    const bar = make('td', '', { class: 'bar' })
    const fill = make('i')
    fill.style.inlineSize = `${(100 * value) / most}%`
    bar.append(fill)
    return row([make('th', name, { scope: 'row' }), bar, make('td', show(value), { class: 'figure' })])
  }))
}
