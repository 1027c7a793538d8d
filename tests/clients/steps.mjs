// What the Node.js clients share: settings from the environment, the installed packages, one line for each step.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

export class Wrong extends Error {}

/** A setting of the environment; without a default it must be there. */
export function setting(name, fallback) {
  const value = process.env[name] || fallback;
  if (value === undefined) {
    console.error(`${process.argv[1]}: set ${name}`);
    process.exit(1);
  }
  return value;
}

/** A package from the folder that install.sh filled (CLIENTS, or its default). */
export function load(name) {
  const here = dirname(fileURLToPath(import.meta.url));
  const clients = process.env.CLIENTS || join(here, '../../target/clients');
  return import(pathToFileURL(createRequire(join(clients, 'package.json')).resolve(name)));
}

export const ok = (step) => console.log(`ok ${step}`);

export function expect(holds, message) {
  if (!holds) throw new Wrong(message);
}

/** Expects that a call fails, and gives its error. */
export async function refused(call, what) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Wrong(`${what} was not refused`);
}

/** Runs the flows in order; the first fault ends the program with its text and exit code 1. */
export async function run(flows) {
  for (const flow of flows) {
    try {
      await flow();
    } catch (error) {
      const parts = [];
      for (let cause = error; cause instanceof Error; cause = cause.cause) {
        const code = cause.error ?? cause.code;
        parts.push(cause instanceof Wrong ? cause.message : `${cause.name}${code ? ` (${code})` : ''}: ${cause.message}`);
        if (!(cause.cause instanceof Error) && cause.cause !== undefined) parts.push(await shown(cause.cause));
      }
      console.error(`FAILED in ${flow.name}: ${parts.join(' <- ')}`);
      process.exit(1);
    }
  }
}

async function shown(cause) {
  if (cause instanceof Response) {
    const body = cause.bodyUsed ? '(read)' : await cause.text();
    return `${cause.status} ${cause.headers.get('content-type')} ${body.slice(0, 300)}`;
  }
  return cause instanceof URLSearchParams ? `${cause}` : JSON.stringify(cause);
}

/** A token reply as the libraries give it. */
export function expectToken(token, { scope, refreshable }) {
  const hidden = (name, value) => (/token/.test(name) && name !== 'token_type' && typeof value === 'string' ? '…' : value);
  const text = JSON.stringify(token, hidden);
  expect(typeof token.access_token === 'string' && token.access_token, `no access_token: ${text}`);
  expect(token.token_type === 'bearer', `token_type is not Bearer: ${text}`);
  expect(Number.isInteger(token.expires_in) && token.expires_in > 0, `expires_in is no positive integer: ${text}`);
  expect(typeof token.scope === 'string' && token.scope, `no scope: ${text}`);
  expect(!Object.values(token).includes(null), `a member is null: ${text}`);
  expect((token.refresh_token !== undefined) === refreshable, `refresh_token wanted: ${refreshable}, got: ${text}`);
  const sorted = (list) => list.split(' ').sort().join(' ');
  expect(!scope || sorted(token.scope) === sorted(scope), `asked for the scope ${scope}, got ${token.scope}`);
}
