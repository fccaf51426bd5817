// Package expr evaluates the expressions of GitHub workflows: the language inside ${{ }} and of every if:.
//
// It promises the coercions, comparisons, filters and messages of GitHub's own library; the cases in testdata are
// GitHub's and are run as they are. Evaluation is pure and bounded: depth of nesting and length of results are limited,
// so a hostile workflow costs no more than its own size. Functions that look outside (hashFiles, success, ...) are given by
// the caller in Env.
//
// Parse makes an Expr, Expr.Eval a Value, and Interpolate fills a string with ${{ }} parts.
package expr
