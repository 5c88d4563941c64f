/** A session of V8's inspector on the main thread. STUB: the inspector part's owner writes it. */
export interface InspectorSession {
  /** @throws {Problem} 503 `ERR_LAMEDUCK_OPS_BLOCKED` when nothing came in time. */
  post<T = Record<string, unknown>>(method: string, params?: object, options?: { timeoutMs?: number }): Promise<T>
  /** @returns What stops it. */
  on<T = Record<string, unknown>>(event: string, listener: (params: T) => void): () => void
  disconnect(): void
}

/** Opens a session: from a worker through `connectToMainThread()`, on the main thread itself through `connect()`. */
export type Connect = () => InspectorSession
