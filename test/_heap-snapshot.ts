/** A heap snapshot as a whole, parsed the plain way: what the streaming code is held against. */
import { readFileSync } from 'node:fs'

interface Raw {
  snapshot: { meta: { node_fields: string[]; node_types: [string[]]; edge_fields: string[]; edge_types: [string[]] }; node_count: number; edge_count: number }
  nodes: number[]
  edges: number[]
  strings: string[]
}

export interface Node {
  index: number
  type: string
  name: string
  id: number
}

export interface Edge {
  type: string
  name: string | number
  from: number
  to: number
}

export class HeapSnapshot {
  readonly raw: Raw
  readonly #first: number[] = []

  constructor(text: string | Buffer) {
    this.raw = JSON.parse(text.toString()) as Raw
    let first = 0
    for (let node = 0; node < this.raw.snapshot.node_count; node++) {
      this.#first.push(first)
      first += this.#field(node, 'edge_count')
    }
    this.#first.push(first)
  }

  static read(file: string): HeapSnapshot {
    return new HeapSnapshot(readFileSync(file))
  }

  /** Everything that DevTools relies on. @returns What is wrong. */
  faults(): string[] {
    const { snapshot: { meta, node_count: nodes, edge_count: edges }, ...raw } = this.raw
    const faults: string[] = []
    const fields = meta.node_fields.length
    if (raw.nodes.length !== nodes * fields) faults.push(`${raw.nodes.length} numbers for ${nodes} nodes`)
    if (raw.edges.length !== edges * 3) faults.push(`${raw.edges.length} numbers for ${edges} edges`)
    if (this.#first.at(-1) !== edges) faults.push(`the nodes have ${this.#first.at(-1)} edges of ${edges}`)
    for (let at = 0; at < raw.nodes.length; at += fields) {
      if ((raw.nodes[at + 1] as number) >= raw.strings.length) faults.push(`node ${at / fields} has no name`)
    }
    for (let at = 0; at < raw.edges.length; at += 3) {
      const [type, name, to] = raw.edges.slice(at, at + 3) as [number, number, number]
      if (to % fields !== 0 || to >= raw.nodes.length) faults.push(`edge ${at / 3} leads nowhere`)
      const kind = meta.edge_types[0][type]
      if (kind === undefined || (kind !== 'element' && kind !== 'hidden' && name >= raw.strings.length)) faults.push(`edge ${at / 3} has no name`)
    }
    return faults
  }

  node(index: number): Node {
    const type = this.raw.snapshot.meta.node_types[0][this.#field(index, 'type')] ?? ''
    return { index, type, name: this.raw.strings[this.#field(index, 'name')] ?? '', id: this.#field(index, 'id') }
  }

  find(type: string, name: string): Node | undefined {
    for (let index = 0; index < this.raw.snapshot.node_count; index++) {
      const node = this.node(index)
      if (node.type === type && node.name === name) return node
    }
    return undefined
  }

  * edges(node: number): Generator<Edge> {
    const fields = this.raw.snapshot.meta.node_fields.length
    for (let edge = this.#first[node] as number; edge < (this.#first[node + 1] as number); edge++) {
      const [type, name, to] = this.raw.edges.slice(3 * edge, 3 * edge + 3) as [number, number, number]
      const kind = this.raw.snapshot.meta.edge_types[0][type] ?? ''
      const text = kind === 'element' || kind === 'hidden' ? name : this.raw.strings[name] ?? ''
      yield { type: kind, name: text, from: node, to: to / fields }
    }
  }

  /** Follows named edges from a node. @returns Where they lead, if they do. */
  follow(from: Node | undefined, ...path: string[]): Node | undefined {
    let at = from
    for (const name of path) {
      if (!at) return undefined
      const edge = [...this.edges(at.index)].find(edge => edge.name === name)
      at = edge && this.node(edge.to)
    }
    return at
  }

  #field(node: number, name: string): number {
    const { node_fields: fields } = this.raw.snapshot.meta
    return this.raw.nodes[node * fields.length + fields.indexOf(name)] as number
  }
}
