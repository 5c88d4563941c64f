import type { createColors } from 'picocolors'

export type Colors = ReturnType<typeof createColors>

export const number = (value: number): string => value.toLocaleString('en-US')
export const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`
export const requests = (count: number): string => `${number(count)} request${count === 1 ? '' : 's'}`
