import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Frames } from '../src/core/frames.ts'
import { closeFrame, frame } from './_websocket.ts'

const HEAD = 'HTTP/1.1 101 Switching Protocols\r\nX: \r\n\r \n\r\r\nConnection: Upgrade\r\n\r\n'

const lengths = fc.oneof(fc.nat(300), fc.constantFrom(0, 125, 126, 127, 65_535, 65_536, 70_000))

/** Frames in the order of a conversation that never ends, and where each ends. */
const conversation = fc.array(fc.record({
  opcode: fc.constantFrom(0, 1, 2, 9, 10),
  fin: fc.boolean(),
  length: lengths,
}), { minLength: 1, maxLength: 12 })

/** Pieces of bytes, cut at these places. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [...new Set(places.map(place => place % (bytes.length + 1)))].sort((a, b) => a - b)
  return [...at, bytes.length].map((end, i) => bytes.subarray(i === 0 ? 0 : at[i - 1], end))
}

for (const mask of [false, true]) {
  test(`${mask ? 'masked' : 'unmasked'} frames end where they end, however they are cut`, () => {
    fc.assert(fc.property(conversation, fc.array(fc.nat(), { maxLength: 40 }), (all, places) => {
      const head = mask ? Buffer.alloc(0) : Buffer.from(HEAD)
      const ends = [head.length]
      const bytes: Buffer[] = [head]
      for (const { opcode, fin, length } of all) {
        bytes.push(frame(opcode, Buffer.alloc(length, 0x88), { fin: fin || opcode > 8, mask }))
        ends.push(ends.at(-1)! + bytes.at(-1)!.length)
      }
      const frames = new Frames(!mask)
      let sent = 0
      for (const piece of cut(Buffer.concat(bytes), places)) {
        const whole = frames.push(piece)
        const last = ends.findLast(end => end <= sent + piece.length) ?? 0
        assert.equal(whole, Math.max(0, last - sent))
        sent += piece.length
        assert.equal(frames.between, ends.includes(sent))
        assert.equal(frames.closing, false)
        const begun = all.filter((_, i) => ends[i]! < sent && all[i]!.opcode < 8).at(-1)
        assert.equal(frames.fragmented, begun !== undefined && !begun.fin)
      }
    }), { numRuns: 300 })
  })
}

test('a close frame is seen as soon as it begins, is whole at its end, and nothing counts behind it', () => {
  fc.assert(fc.property(conversation, fc.array(fc.nat(), { maxLength: 20 }), fc.nat(70_000), (all, places, junk) => {
    const before = Buffer.concat(all.map(({ opcode, length }) => frame(opcode, Buffer.alloc(length), { mask: true })))
    const close = closeFrame(1_001, true)
    const bytes = Buffer.concat([before, close, Buffer.alloc(junk, 0xff)])
    const frames = new Frames(false)
    let sent = 0
    for (const piece of cut(bytes, places)) {
      frames.push(piece)
      sent += piece.length
      assert.equal(frames.closing, sent > before.length)
      assert.equal(frames.closed, sent >= before.length + close.length)
    }
  }), { numRuns: 200 })
})

test('what is skipped of a payload counts as if it had been looked at', () => {
  const frames = new Frames(false)
  const bytes = frame(2, Buffer.alloc(1_000, 0x88))
  frames.push(bytes.subarray(0, 10))
  assert.equal(frames.left, 994)
  frames.skip(994)
  assert.equal(frames.between, true)
  assert.equal(frames.push(closeFrame(1_000)), 4)
  assert.equal(frames.closed, true)
})

for (const status of ['400 Bad Request', '103 Early Hints', '201 Created', '111 x']) {
  test(`after ${status} there are no frames`, () => {
    const frames = new Frames(true)
    assert.equal(frames.push(Buffer.from(`HTTP/1.1 ${status}\r\n\r\n`)), 0)
    frames.push(closeFrame(1_000))
    assert.equal(frames.between, false)
    assert.equal(frames.closing, false)
  })
}
