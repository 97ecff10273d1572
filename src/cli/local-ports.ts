import { randomInt } from 'node:crypto';
import { get } from 'node:http';
import { createServer } from 'node:net';

/** Ports between two replicas of a local cluster; a replica uses the first three (later five) of them. */
export const PORT_STRIDE = 10;
const PORTS_USED = 5;
/** Below the range that systems hand out for outgoing connections, so that a block stays free between check and use. */
const FIRST_PORT = 15_000;
const LAST_PORT = 32_000;
const MAX_TRIES = 50;

/** A base port whose block for `replicas` replicas is free now. */
export async function freeBasePort(host: string, replicas: number): Promise<number> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    const base = randomInt(FIRST_PORT / PORT_STRIDE, (LAST_PORT - replicas * PORT_STRIDE) / PORT_STRIDE) * PORT_STRIDE;
    if (await blockIsFree(host, base, replicas)) return base;
  }
  throw new Error(`no free block of ports between ${FIRST_PORT} and ${LAST_PORT} after ${MAX_TRIES} tries`);
}

export async function blockIsFree(host: string, base: number, replicas: number): Promise<boolean> {
  for (let replica = 0; replica < replicas; replica++) {
    for (let offset = 0; offset < PORTS_USED; offset++) {
      if (!(await portIsFree(host, base + replica * PORT_STRIDE + offset))) return false;
    }
  }
  return true;
}

function portIsFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, host, () => probe.close(() => resolve(true)));
  });
}

/** @returns null when nobody answers in time */
export function httpGet(url: string, timeoutMs: number): Promise<{ status: number; text: string } | null> {
  return new Promise((resolve) => {
    const request = get(url, { timeout: timeoutMs, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      response.on('error', () => resolve(null));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => resolve(null));
    request.on('close', () => resolve(null));
  });
}
