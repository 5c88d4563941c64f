/** Runs somebody else's code. What it throws, at once or as a promise that rejects, goes to `failed` and not to the process. */
export function contain(run: () => unknown, failed: (error: unknown) => void): void {
  try {
    const result = run()
    if (result instanceof Promise) result.catch(failed)
  } catch (error) {
    failed(error)
  }
}
