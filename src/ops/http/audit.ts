/** One line of the audit trail. Tokens and expressions are never in it. */
export interface AuditEntry {
  /** ISO 8601. */
  time: string
  /**
   * begin: before anything is done; end: what came of it; refused: with `count`, how often within a second; auth: a token file was read, or cannot
   * be; or what happened without a request: `rule`, `worker`; complete: names were completed in the REPL, `count` times.
   */
  event: 'begin' | 'end' | 'refused' | 'auth' | 'rule' | 'worker' | 'job' | 'complete'
  /** The call's number, the same at its begin and end. */
  call?: number
  who: string
  from: string
  method?: string
  path?: string
  status?: number
  code?: string
  bytes?: number
  durationMs?: number
  [more: string]: unknown
}

/** The audit trail. */
export interface Audit {
  /** @throws When it cannot be written: who needs the trail (`secrets`, `eval`) is then refused. */
  write(entry: Omit<AuditEntry, 'time'>): Promise<void>
  /** The last entries, oldest first. */
  recent(): readonly AuditEntry[]
  close(): Promise<void>
}
