// Reads one JSON object {"expr", "contexts"} a line and answers each with {"kind", "json"} or {"error"}, as GitHub's library has it.
import { createInterface } from "node:readline";
import { Lexer, Parser, Evaluator, data } from "@actions/expressions";
import { reviver } from "@actions/expressions/data/reviver";
import { wellKnownFunctions } from "@actions/expressions/funcs";

const kinds = Object.fromEntries(Object.entries(data.Kind).map(([name, value]) => [value, name === "Dictionary" ? "Object" : name]));
for await (const line of createInterface({ input: process.stdin })) {
  const { expr, contexts } = JSON.parse(line);
  let answer;
  try {
    const known = JSON.parse(contexts, reviver);
    const names = known.pairs().map(p => p.key);
    const tree = new Parser(new Lexer(expr).lex().tokens, names, []).parse();
    const value = new Evaluator(tree, known).evaluate();
    answer = { kind: kinds[value.kind], json: wellKnownFunctions.tojson.call(value).value };
  } catch (e) {
    answer = { error: e.message };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
