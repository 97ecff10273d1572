// What a JSON report of vitest says, for .ci/run: the line `passed failed`, then the name of everything that did not pass and why.
import { readFileSync } from 'node:fs';

const REASON_LINES = 6;
const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const notRun = (report.numPendingTests ?? 0) + (report.numTodoTests ?? 0);
console.log(report.numPassedTests, report.numFailedTests + notRun);
for (const file of report.testResults) {
  if (file.status === 'failed' && file.assertionResults.length === 0) print('not loaded', file.name, file.message);
  for (const { status, fullName, failureMessages } of file.assertionResults) {
    if (status !== 'passed') print(status, fullName, (failureMessages ?? []).join('\n'));
  }
}

function print(status, name, reason) {
  const lines = reason.split('\n', REASON_LINES).map((line) => `    ${line}`);
  console.log([`  ${status}: ${name}`, ...lines].join('\n').trimEnd());
}
