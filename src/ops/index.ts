export type { CustomCall, CustomRoute } from './custom.ts'
export type { AuditEntry } from './http/audit.ts'
export type { Param, Reply, Scope } from './http/route.ts'
export { Ops, ops, type Address, type OpsEvents } from './ops.ts'
export type {
  AuthOptions, FileOptions, HeapOptions, HeavyOptions, LimitOptions, Listen, OpsOptions, ProbeOptions, TokenOptions,
} from './options.ts'
export type { RuleInput } from './watch/rule.ts'
export type { RuleReport } from './watch/rules.ts'
export type { Leveled } from './state/loggers.ts'
