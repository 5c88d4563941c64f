import type { Crew } from './crew.ts'
import type { Member } from './member.ts'
import type { Settings } from './options.ts'
import type { Slot } from './slot.ts'
import type { System } from './system.ts'
import type { Turns } from './turn.ts'

/**
 * Workers that want to be out of rotation for a while, for a heap snapshot: a replacement is ready first, and one worker at a
 * time is out. A reload waits for it.
 */
export class Isolation {
  #crew: Crew
  #settings: Settings
  #system: System
  #turns: Turns
  #returned = new Map<Member, (retire: boolean) => void>()

  constructor(crew: Crew, settings: Settings, system: System, turns: Turns) {
    this.#crew = crew
    this.#settings = settings
    this.#system = system
    this.#turns = turns
  }

  /** A worker asks to be isolated. */
  begin(member: Member): void {
    const slot = this.#crew.slots.find(({ current }) => current === member)
    if (!slot || this.#returned.has(member)) {
      member.tell({ lameduck: 'isolated', ok: false, reason: slot ? 'it is isolated already' : `it is ${member.state}` })
      return
    }
    // Known from here on, so that a `return` before its turn is not lost.
    const back = new Promise<boolean>(resolve => this.#returned.set(member, resolve))
    const what = `worker ${member.slot} (pid ${member.pid}) is isolated, for a heap snapshot or the like`
    void this.#turns.take(what, () => this.#isolate(slot, member, back)).finally(() => this.#returned.delete(member))
  }

  /** A worker has done what it wanted. */
  end(member: Member, retire: boolean): void {
    this.#returned.get(member)?.(retire)
  }

  async #isolate(slot: Slot, member: Member, back: Promise<boolean>): Promise<void> {
    // A reload, or fewer places, may have come first.
    if (slot.current !== member || !this.#crew.slots.includes(slot)) {
      member.tell({ lameduck: 'isolated', ok: false, reason: `it is ${member.state}` })
      return
    }
    try {
      await this.#crew.succeed(slot, slot.release)
    } catch (error) {
      member.tell({ lameduck: 'isolated', ok: false, reason: (error as Error).message })
      return
    }
    member.enter('isolated')
    member.tell({ lameduck: 'isolated', ok: true })
    let over = () => {}
    const elapsed = new Promise<boolean>(resolve => {
      over = this.#system.after(this.#settings.isolateMs, () => resolve(true))
    })
    const gone = member.exited.then(() => true)
    // The replacement goes only once this one is ready again.
    const retire = await Promise.race([back.then(async toRetire => toRetire || member.readyAgain().then(() => false)), elapsed, gone])
    over()
    if (retire || slot.next || !this.#crew.slots.includes(slot)) void member.retire('its isolation is over')
    else this.#comeBack(slot, member)
  }

  /** Back in its place. */
  #comeBack(slot: Slot, member: Member): void {
    const replacement = slot.current
    slot.cancel()
    slot.current = member
    member.recover()
    void replacement?.retire('the worker it stood in for is back')
  }
}
