import type { Desk } from './desk.ts'
export async function repl(_desk: Desk, _options: { sideEffects: boolean }): Promise<void> {}
