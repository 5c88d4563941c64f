/** Whatever was thrown (or said) as text: JavaScript throws anything, and not everything can be made a string. */
export function textOf(thrown: unknown): string {
  try {
    return String(thrown)
  } catch {
    return '(no text)'
  }
}

/** The message alone, of what has one. */
export function messageOf(thrown: unknown): string {
  const { message = thrown } = Object(thrown) as { message?: unknown }
  return textOf(message)
}

/** For what nobody else is left to hear of. */
export function warn(thrown: unknown): void {
  process.emitWarning(thrown instanceof Error ? thrown : messageOf(thrown))
}
