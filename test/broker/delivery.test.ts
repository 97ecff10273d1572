import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readU32 } from '../../src/base/bytes.ts';
import { crc32 } from '../../src/base/crc.ts';
import { decodeCommand, encodeCommand } from '../../src/broker/commands.ts';
import { Delivery, type DeliveryRow, decodeRow, encodeDelivery, ROW_BYTES, WHOLE_BATCH } from '../../src/broker/delivery.ts';
import { ENTRY_HEADER_BYTES } from '../../src/log/layout.ts';
import { decodeBrokerFrame, encodeResponse } from '../../src/protocol/frame.ts';
import { Op, type PullResponse } from '../../src/protocol/requests.ts';

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u53 = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const anyRow: fc.Arbitrary<DeliveryRow> = fc.record({
  position: u53,
  sizeBytes: u32,
  messageIndex: fc.oneof(u32, fc.constant(WHOLE_BATCH)),
  count: u32,
  topicId: u32,
  queueId: u16,
  attempts: u16,
  originTopicId: u32,
  originQueueId: u16,
  originOffset: u53,
  tagBloom: u32,
});
const COMMAND = encodeCommand({ type: 'cut', position: 4096 });

describe('delivery entries', () => {
  test('what is laid down is read again, and each row is found at its own position', () => {
    fc.assert(
      fc.property(fc.array(anyRow, { maxLength: 20 }), u32, (rows, position) => {
        const body = encodeDelivery(COMMAND, rows);
        expect(readU32(body, 0)).toBe(crc32(body.subarray(4)));
        const delivery = new Delivery(body, position);
        expect(decodeCommand(delivery.command)).toEqual({ type: 'cut', position: 4096 });
        expect(delivery.rows).toEqual(rows);
        rows.forEach((row, i) => {
          expect(decodeRow(body, delivery.rowPosition(i) - position - ENTRY_HEADER_BYTES)).toEqual(row);
        });
      }),
    );
  });

  test('a row of which one bit is another is no row, and neither is half of one', () => {
    fc.assert(
      fc.property(anyRow, fc.integer({ min: 0, max: ROW_BYTES * 8 - 1 }), (row, bit) => {
        const body = encodeDelivery(COMMAND, [row]);
        const at = body.length - ROW_BYTES;
        expect(decodeRow(body, at + 1)).toBeNull();
        body[at + (bit >> 3)] = (body[at + (bit >> 3)] as number) ^ (1 << (bit & 7));
        expect(decodeRow(body, at)).toBeNull();
      }),
    );
  });

  test('a pull’s answer says which batches stand for one message; a release that does not know it reads the rest', () => {
    const batch = { logTimeMs: 1, position: 64, sizeBytes: 1 };
    const reference = { messageIndex: 3, attempts: 2, originTopic: 'orders', originQueueId: 1, originOffset: 17 };
    const gone = { messageIndex: 0, attempts: 1, originTopic: '', originQueueId: 0, originOffset: -1 };
    const body: PullResponse = {
      minOffset: 0,
      maxOffset: 3,
      nextOffset: 3,
      batches: [
        { ...batch, baseOffset: 0, reference },
        { ...batch, baseOffset: 1 },
        { ...batch, baseOffset: 2, reference: gone },
      ],
    };
    const read = decodeBrokerFrame(encodeResponse(Op.pull, 7, body, new Uint8Array(3)).slice(), () => Op.pull);
    expect(read).toMatchObject({ kind: 'response', body });
    expect(read).not.toHaveProperty('body.suggest');
  });
});
