import { Problem } from './problem.ts'
import type { Principal, Scope } from './route.ts'

/**
 * For a handler that needs more than its route does.
 *
 * @throws {Problem} 403 `ERR_LAMEDUCK_OPS_SCOPE` with the scope; 503 `ERR_LAMEDUCK_OPS_AUDIT` when the caller has it, and it may not be used without
 *   an audit trail.
 */
export function needScope({ scopes, withheld }: Pick<Principal, 'scopes' | 'withheld'>, scope: Scope, detail: string): void {
  if (scopes.has(scope)) return
  if (withheld?.has(scope)) throw new Problem(503, 'ERR_LAMEDUCK_OPS_AUDIT', 'the audit trail cannot be written, and this is not done without it')
  throw new Problem(403, 'ERR_LAMEDUCK_OPS_SCOPE', detail, { scope })
}
