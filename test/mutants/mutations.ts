import ts from 'typescript';

/** One small change of a source file that a test should notice. Offsets are of characters in its text. */
export interface Mutation {
  readonly start: number;
  readonly end: number;
  readonly replacement: string;
  /** From 1. */
  readonly line: number;
  /** As a reviewer would say it: `a < b` → `a <= b`. */
  readonly what: string;
}

const SWAPPED: ReadonlyMap<ts.SyntaxKind, string> = new Map([
  [ts.SyntaxKind.LessThanToken, '<='],
  [ts.SyntaxKind.LessThanEqualsToken, '<'],
  [ts.SyntaxKind.GreaterThanToken, '>='],
  [ts.SyntaxKind.GreaterThanEqualsToken, '>'],
  [ts.SyntaxKind.EqualsEqualsEqualsToken, '!=='],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken, '==='],
  [ts.SyntaxKind.AmpersandAmpersandToken, '||'],
  [ts.SyntaxKind.BarBarToken, '&&'],
  [ts.SyntaxKind.PlusToken, '-'],
  [ts.SyntaxKind.MinusToken, '+'],
  [ts.SyntaxKind.AsteriskToken, '/'],
  [ts.SyntaxKind.PlusEqualsToken, '-='],
  [ts.SyntaxKind.MinusEqualsToken, '+='],
]);

/** What a test cannot see, or need not: texts of errors and events, and assertions, whose job is to be true. */
const NOT_TESTED = /^(assert|assertNever|this\.#ports\.event|this\.#event|event|log)\b/;

/**
 * All mutations of a file: operators swapped, conditions turned round, numbers one off, booleans flipped, calls for their effect left
 * out, early returns left out. Types, imports and what NOT_TESTED names are left alone.
 */
export function mutationsOf(text: string): Mutation[] {
  const file = ts.createSourceFile('mutated.ts', text, ts.ScriptTarget.Latest, true);
  const found: Mutation[] = [];
  const add = (node: ts.Node, replacement: string, context: ts.Node = node): void => {
    const start = node.getStart(file);
    const { line } = file.getLineAndCharacterOfPosition(start);
    const before = context.getText(file);
    const at = start - context.getStart(file);
    const after = before.slice(0, at) + replacement + before.slice(at + node.getEnd() - start);
    found.push({ start, end: node.getEnd(), replacement, line: line + 1, what: `${oneLine(before)} → ${oneLine(after)}` });
  };
  const visit = (node: ts.Node): void => {
    if (ts.isTypeNode(node) || ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) || ts.isImportDeclaration(node)) return;
    if (ts.isExpressionStatement(node) && NOT_TESTED.test(node.expression.getText(file))) return;
    if (ts.isThrowStatement(node) || ts.isTemplateExpression(node)) return;
    mutate(node, add);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function mutate(node: ts.Node, add: (node: ts.Node, replacement: string, context?: ts.Node) => void): void {
  if (ts.isBinaryExpression(node)) {
    const swapped = SWAPPED.get(node.operatorToken.kind);
    if (swapped !== undefined) add(node.operatorToken, swapped, node);
  } else if (ts.isIfStatement(node) || ts.isWhileStatement(node) || ts.isConditionalExpression(node)) {
    const condition = ts.isConditionalExpression(node) ? node.condition : node.expression;
    add(condition, `!(${condition.getText()})`);
  } else if (ts.isNumericLiteral(node)) {
    if (isPlainNumber(node)) add(node, String(Number(node.text) + 1), node.parent);
  } else if (node.kind === ts.SyntaxKind.TrueKeyword) add(node, 'false', node.parent);
  else if (node.kind === ts.SyntaxKind.FalseKeyword) add(node, 'true', node.parent);
  else if (ts.isExpressionStatement(node) && ts.isCallExpression(node.expression)) add(node, '{}');
  else if (ts.isReturnStatement(node) && node.expression === undefined) add(node, '{}');
}

/** Not a bit pattern or a size, where one more is another format and not another behaviour. */
function isPlainNumber(node: ts.NumericLiteral): boolean {
  return /^\d{1,3}$/.test(node.getText()) && !ts.isPropertyAssignment(node.parent) && !ts.isEnumMember(node.parent);
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  return line.length <= 100 ? line : `${line.slice(0, 97)}…`;
}

export function mutated(text: string, { start, end, replacement }: Mutation): string {
  return text.slice(0, start) + replacement + text.slice(end);
}
