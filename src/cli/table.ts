import Table from 'cli-table3'
import { oneLine } from './format.ts'

export interface Column {
  title: string
  /** Default left; numbers read better on the right. */
  right?: boolean
}

const NO_LINES = Object.fromEntries([
  'top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right',
  'left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid',
].map(name => [name, '']))

/** A table without lines: columns two spaces apart, nothing behind the last. The same on a terminal and in a pipe, but for the heading's colour. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[], heading: (text: string) => string = text => text): string {
  const drawn = new Table({
    head: columns.map(({ title }) => heading(title)),
    colAligns: columns.map(({ right }) => right ? 'right' : 'left'),
    chars: { ...NO_LINES, middle: '  ' },
    style: { head: [], border: [], compact: true, 'padding-left': 0, 'padding-right': 0 },
  })
  drawn.push(...rows.map(row => row.map(oneLine)))
  return drawn.toString().split('\n').map(line => line.trimEnd()).join('\n')
}
