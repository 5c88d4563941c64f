import { bytes, duration, harmless, oneLine, percent } from './format.ts'
import { table } from './table.ts'

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)
const isFlat = (value: unknown) => !Array.isArray(value) && (!isRecord(value) || Object.keys(value).length === 0)

const MEMORY = /^(?:bytes|rss|rssBefore|rssAfter|usedHeap|heapUsed|heapTotal|heapLimit|external|arrayBuffers|need|available|size)$|Bytes$/

/** `heapUsed` as `heap used`, `durationMs` as `duration`: the value has its unit. */
const words = (key: string) => oneLine(key.replace(/(?<=[a-z])(?:Ms|Bytes)$/, '').replaceAll(/([a-z\d])([A-Z])/g, (_, before: string, after: string) => `${before} ${after.toLowerCase()}`))

/** A value as a person reads it; the key says what unit it has. */
export function cell(key: string, value: unknown): string {
  if (value === null || value === undefined) return '-'
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'number') {
    if (/(?:^ms|Ms)$/.test(key)) return duration(value)
    if (MEMORY.test(key)) return bytes(value)
    if (/utilization$/i.test(key)) return percent(value)
    return Number.isInteger(value) ? String(value) : value.toFixed(3)
  }
  return typeof value === 'string' ? oneLine(value) : oneLine(JSON.stringify(value) ?? '-')
}

/** Whether there is anything in it. */
const empty = (value: unknown) => (Array.isArray(value) && value.length === 0) || (isRecord(value) && Object.keys(value).length === 0)

/** Rows of the same kind as a table, with the columns that any of them has. */
function rows(list: Record<string, unknown>[]): string {
  const keys = [...new Set(list.flatMap(row => Object.keys(row)))]
  const numeric = (key: string) => list.every(row => row[key] === undefined || typeof row[key] === 'number')
  return table(keys.map(key => ({ title: words(key), right: numeric(key) })), list.map(row => keys.map(key => cell(key, row[key]))))
}

const indent = (text: string) => text.split('\n').map(line => line === '' ? line : `  ${line}`).join('\n')

/** Any JSON as a person reads it: what has no view of its own. */
export function details(value: unknown): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return 'none'
    if (value.every(isRecord)) return rows(value)
    return value.map(item => isFlat(item) ? cell('', item) : details(item)).join('\n')
  }
  if (!isRecord(value)) return typeof value === 'string' ? harmless(value) : cell('', value)
  const entries = Object.entries(value).filter(([, item]) => !empty(item) && item !== undefined)
  const width = Math.max(0, ...entries.filter(([, item]) => isFlat(item)).map(([key]) => words(key).length))
  return entries.map(([key, item]) => isFlat(item)
    ? `${words(key).padEnd(width)}  ${cell(key, item)}`
    : `${words(key)}\n${indent(details(item))}`).join('\n')
}
