import { describe, expect, test } from 'vitest';
import { BodyCompression } from '../../src/client/body-compression.ts';
import type { ProducerOptions } from '../../src/client/options.ts';
import { batchCodec } from '../../src/protocol/record-batch.ts';
import { ScriptedGroup } from '../support/scripted-broker.ts';

/** @returns the codecs of the batches that were stored, one for each body */
async function codecs(maxCodec: number | undefined, options: ProducerOptions, bodies: readonly (string | Uint8Array)[]): Promise<number[]> {
  const group = new ScriptedGroup();
  group.maxCodec = maxCodec;
  const producer = group.client().producer(options);
  for (const body of bodies) {
    void producer.send({ topic: 't', body });
    await group.clock.run(50);
  }
  expect(group.bodies()).toEqual(bodies.map((body) => Buffer.from(body).toString()));
  return (group.stored.get(0) ?? []).map(({ bytes }) => batchCodec(bytes, 0));
}

const LARGE = 'a'.repeat(4_097);
const SMALL = 'a'.repeat(4_096);

describe('compression at the client', () => {
  test('F46 a body above the size is compressed, where the broker takes it', async () => {
    expect(await codecs(1, {}, [LARGE, SMALL])).toEqual([1, 0]);
    // An older broker says nothing of codecs, one whose group is not upgraded says 0.
    expect(await codecs(undefined, {}, [LARGE])).toEqual([0]);
    expect(await codecs(0, {}, [LARGE])).toEqual([0]);
    expect(await codecs(1, { compressMsgBodyOverHowmuch: 0 }, [SMALL, ''])).toEqual([1, 0]);
    expect(await codecs(1, { compressType: 'none' }, [LARGE])).toEqual([0]);
  });

  test('F46 what does not get smaller is left alone for a while, by topic', () => {
    const noise = new Uint8Array(10_000).map((_, i) => Math.imul(i * i + 7, 0x9e3779b1) >>> 13);
    const compression = new BodyCompression({ compressType: 'zstd', compressMsgBodyOverHowmuch: 4_096, compressLevel: 1 });
    expect(compression.of('noise', noise.length, 1)?.(noise)).toBeNull();
    for (let i = 0; i < 31; i++) expect(compression.of('noise', noise.length, 1)).toBeNull();
    expect(compression.of('text', 5_000, 1)).not.toBeNull();
    expect(compression.of('noise', 5_000, 1)?.(new Uint8Array(5_000))).not.toBeNull();
    expect(compression.of('noise', 5_000, 1)).not.toBeNull();
  });

  test('F46 settings out of range are refused', () => {
    const client = new ScriptedGroup().client();
    for (const options of [
      { compressLevel: 0 },
      { compressLevel: 20 },
      { compressMsgBodyOverHowmuch: -1 },
      { compressType: 'gzip' as 'zstd' },
    ]) {
      expect(() => client.producer(options)).toThrow(/BAD_REQUEST/);
    }
  });

  test('I8 F46 a pull whose bodies open to more than the prefetch bound is taken in as far as the bound', async () => {
    const group = new ScriptedGroup();
    group.maxCodec = 1;
    group.assignment = {
      group: 'cg',
      member: 'x',
      epoch: 1,
      queues: [{ topic: 't', queueId: 0, committedOffset: 0, epoch: 1 }],
      revoking: [],
    };
    const client = group.client();
    const producer = client.producer({ maxBatchMessages: 1 });
    const MIB = 1024 * 1024;
    for (let i = 0; i < 20; i++) void producer.send({ topic: 't', body: new Uint8Array(MIB).fill(i) });
    await group.clock.run(200);
    const done: (() => void)[] = [];
    const seen: number[] = [];
    const consumer = client.consumer({
      group: 'cg',
      topics: ['t'],
      concurrency: 1,
      prefetchBytesPerQueue: 4 * MIB,
      handler: ({ body }) => {
        seen.push(body[MIB - 1] as number);
        return new Promise<void>((resolve) => done.push(resolve));
      },
    });
    void consumer.start();
    await group.clock.run(200);
    let most = 0;
    for (let i = 0; i < 20; i++) {
      most = Math.max(most, consumer.heldBytes);
      expect(consumer.heldMessages).toBeLessThanOrEqual(6);
      done.shift()?.();
      await group.clock.run(50);
    }
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => i));
    expect(most).toBeGreaterThan(3 * MIB);
    expect(most).toBeLessThan(6 * MIB);
    // An explicit pull, too.
    const puller = client.pullConsumer();
    const pulled = puller.pull({ topic: 't', brokerName: 'g', queueId: 0 }, 5, { maxBytes: 3 * MIB });
    await group.clock.run(50);
    expect(await pulled).toMatchObject({ nextOffset: 8, maxOffset: 20 });
    expect((await pulled).messages.map(({ offset }) => offset)).toEqual([5, 6, 7]);
  });
});
