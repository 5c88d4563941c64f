const open = new Set<() => void>()

/** Notes what has to be ended even when a test fails half way, so that a failure is no hanging process. @returns What takes the note back. */
export function leftover(end: () => void): () => void {
  open.add(end)
  return () => void open.delete(end)
}

/** Ends all that is still open. */
export function endLeftovers(): void {
  for (const end of [...open]) end()
}
