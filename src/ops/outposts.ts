import { controlOutpost } from './state/control.ts'
import type { CustomRoutes } from './custom.ts'
import { afterMajorGC } from './gc/hook.ts'
import { gcOutpost } from './gc/outpost.ts'
import { heapOutpost } from './heap/outpost.ts'
import type { OpsOptions } from './options.ts'
import type { Outpost } from './part.ts'
import { loggersOutpost } from './state/loggers.ts'
import { stateOutpost } from './state/outpost.ts'

/** What the application itself is asked by the endpoint. */
function applicationOutpost({ auth, metrics }: OpsOptions): Outpost {
  return ({ link }) => {
    link.offer({
      authorize: async (request: Parameters<NonNullable<NonNullable<OpsOptions['auth']>['authorize']>>[0]) => (await auth?.authorize?.(request)) ?? null,
      metrics: async () => {
        const text: unknown = await metrics?.()
        if (typeof text === 'string') return text
        throw new TypeError(`returned ${text === null ? 'null' : typeof text}; allowed: a string, or a promise of one`)
      },
    })
    return () => {}
  }
}

/** Every part of the main thread's side. */
export function outposts(options: OpsOptions, custom: CustomRoutes): Outpost[] {
  return [
    stateOutpost,
    controlOutpost,
    loggersOutpost(options.loggers ?? {}),
    heapOutpost({ afterMajorGC, ...(options.lastReady && { lastReady: options.lastReady }) }),
    gcOutpost,
    applicationOutpost(options),
    custom.outpost,
  ]
}
