import { contain } from './contain.ts'

// JavaScript throws anything: what cannot be made a string, and what throws again when it is looked at.

function read(from: () => unknown): string {
  try {
    return String(from())
  } catch {
    return '(no text)'
  }
}

/** Whatever was thrown (or said) as text. */
export function textOf(thrown: unknown): string {
  return read(() => thrown)
}

/** The message alone, of what has one. */
export function messageOf(thrown: unknown): string {
  return read(() => (Object(thrown) as { message?: unknown }).message ?? thrown)
}

/** For what nobody else is left to hear of. */
export function warn(thrown: unknown): void {
  // Node takes errors and text.
  contain(() => process.emitWarning(thrown as Error), () => process.emitWarning(messageOf(thrown)))
}
