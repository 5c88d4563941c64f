import type http from 'node:http'
import { All, Controller, HttpCode, Module, Req, Res, type INestApplication, type ModuleMetadata, type NestApplicationOptions, type Type } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { ExpressAdapter } from '@nestjs/platform-express'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { LAMEDUCK, LameduckModule } from '../src/adapters/nestjs.ts'
import type { Duck, Options } from '../src/core/index.ts'

export type Platform = 'express' | 'fastify'

/** Of either platform: Express's response is Node's, fastify's has it. */
export interface Response {
  raw?: http.ServerResponse
  status(code: number): unknown
  header(name: string, value: string): unknown
}

export type Route = (req: http.IncomingMessage & { raw?: http.IncomingMessage }, res: Response) => unknown

/**
 * A controller of Nest. Its decorators are called by hand: what runs these tests compiles TypeScript without them.
 *
 * @param routes By path. What they return is sent, unless they answer by themselves.
 */
export function controller(routes: Record<string, Route>, answerThemselves = false): Type {
  class Routes {
    readonly paths = Object.keys(routes)
  }
  const prototype = Routes.prototype as unknown as Record<string, unknown>
  for (const [path, route] of Object.entries(routes)) {
    const method = path.replace(/\W/g, '_')
    const value = function handle(...args: Parameters<Route>): unknown {
      return route(...args)
    }
    Object.defineProperty(prototype, method, { value, configurable: true, writable: true })
    const descriptor = Object.getOwnPropertyDescriptor(prototype, method) as PropertyDescriptor
    All(path)(prototype, method, descriptor)
    HttpCode(200)(prototype, method, descriptor)
    Req()(prototype, method, 0)
    Res({ passthrough: !answerThemselves })(prototype, method, 1)
  }
  Controller()(Routes)
  return Routes
}

export interface NestSetup {
  options?: Options
  routes: Record<string, Route>
  /** The routes answer by themselves. */
  answerThemselves?: boolean
  providers?: NonNullable<ModuleMetadata['providers']>
  app?: NestApplicationOptions
  fastify?: ConstructorParameters<typeof FastifyAdapter>[0]
}

/** A Nest application, made as its users make one. */
export async function nest(platform: Platform, setup: NestSetup): Promise<{ app: INestApplication, duck: Duck }> {
  const { options = {}, routes, answerThemselves, providers = [], app = {}, fastify } = setup
  class AppModule {
    readonly platform = platform
  }
  Module({ imports: [LameduckModule.forRoot(options)], controllers: [controller(routes, answerThemselves)], providers })(AppModule)
  const all: NestApplicationOptions = { logger: false, abortOnError: false, bodyParser: false, ...app }
  if (platform === 'express') {
    const made = await NestFactory.create(AppModule, new ExpressAdapter(), all)
    return { app: made, duck: made.get<Duck>(LAMEDUCK) }
  }
  const made = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter(fastify), all)
  // Where nothing parses bodies, fastify refuses those with a type that it does not know.
  const instance = made.getHttpAdapter().getInstance()
  instance.removeAllContentTypeParsers()
  instance.addContentTypeParser('*', (_request, _payload, done) => done(null))
  return { app: made, duck: made.get<Duck>(LAMEDUCK) }
}
