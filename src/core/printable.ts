/** What would break a line, hide text or turn its direction: C0, C1, line and paragraph separators, bidirectional controls, lone surrogates. */
const HIDDEN = /[\p{Cc}\p{Cs}\p{Bidi_Control}\u2028\u2029\ufeff]/gu

const LONGEST = 1_024

/** Text from outside as it may stand in a log: one line, all of it visible, of a bearable length. */
export function printable(text: string, longest = LONGEST): string {
  const short = text.length > longest ? `${text.slice(0, longest)}…` : text
  return short.replace(HIDDEN, char => `\\u${(char.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`)
}
