import type { Built } from './_build.ts'
import type { Screen } from './_screen.ts'

/** What a part has come to: a sentence, and why it is no success. */
export interface Verdict {
  sentence: string
  failures: string[]
}

/** One of the things that `npm start` shows. It starts at once. */
export interface Part {
  /** Resolves when everything that it needs has started; a line that says what that is. */
  started: Promise<string>
  run(): Promise<Verdict>
}

export type StartPart = (screen: Screen, building: Promise<Built>) => Part
