import { conformance } from './_conformance.ts'
import { rawWorld } from './_world.ts'

conformance(rawWorld(false))
