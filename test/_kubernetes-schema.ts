import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

const root = fileURLToPath(new URL('..', import.meta.url))
/** As a variable: what is not installed is not to be a type error. */
const models = 'kubernetes-models'

export const hasSchema = existsSync(join(root, 'node_modules', models, 'package.json'))

interface Resource {
  apiVersion: string
  kind: string
}

const moduleOf = ({ apiVersion, kind }: Resource) => `${models}/${apiVersion}/${kind}`

/** @throws When a value breaks the schema: a wrong type, a field that is missing. Fields that it does not know pass. */
export async function validate(resource: Resource): Promise<void> {
  const module = await import(moduleOf(resource)) as Record<string, new (data: object) => { validate(): void }>
  const Model = module[resource.kind]
  if (!Model) throw new Error(`no model of ${resource.kind}`)
  new Model(resource).validate()
}

/** Fields that Kubernetes does not know, found by TypeScript in the package's types. @returns What it says. */
export function unknownFields(resources: readonly Resource[]): string[] {
  const folder = mkdtempSync(join(root, 'node_modules', '.manifests-'))
  try {
    const file = join(folder, 'manifests.ts')
    const lines = resources.map((resource, index) => {
      const type = `import('${moduleOf(resource)}').I${resource.kind}`
      return `export const resource${index}: ${type} = ${JSON.stringify(resource)}`
    })
    writeFileSync(file, lines.join('\n'))
    const program = ts.createProgram([file], {
      strict: true, noEmit: true, skipLibCheck: true, types: [],
      module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, target: ts.ScriptTarget.ES2022,
    })
    return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
