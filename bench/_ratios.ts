/** Columns of benches that compare each run with a bare one beside it. */
import { median, quantile } from './_stats.ts'
import { fixed, type Column } from './_table.ts'

export interface RatioRun {
  perSecond: number
  cpuMicros: number
  /** To the bare run beside it. */
  perSecondRatio: number
  cpuRatio: number
}

export const RATIO_ERROR = 'The control row is the error of this run: a difference that is not larger than its distance from 1 is none.'

export const middle = (values: number[], digits: number): string => fixed(median(values), digits)

const quartiles = (values: number[]) => [0.25, 0.75].map((q) => fixed(quantile(values, q), 3)).join('–')

export function ratioColumns<Row>(runsOf: (row: Row) => RatioRun[]): Column<Row>[] {
  const column = (title: string, key: keyof RatioRun, show: (values: number[]) => string): Column<Row> =>
    ({ title, cell: (row) => show(runsOf(row).map((run) => run[key])) })
  const [three, one, none] = [3, 1, 0].map((digits) => (values: number[]) => middle(values, digits)) as [typeof quartiles, typeof quartiles, typeof quartiles]
  return [
    column('requests/s, ratio', 'perSecondRatio', three), column('quartiles', 'perSecondRatio', quartiles),
    column('CPU per request, ratio', 'cpuRatio', three), column('quartiles', 'cpuRatio', quartiles),
    column('requests/s', 'perSecond', none), column('CPU µs', 'cpuMicros', one),
  ]
}
