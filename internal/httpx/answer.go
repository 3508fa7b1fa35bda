package httpx

import (
	"context"
	"net/http"
)

type answerKey struct{}

// OnAnswer returns a context with which Do tells of the header of each answer, also
// of one that becomes an error: a redirect. What is looked at is the server's clock.
func OnAnswer(ctx context.Context, told func(http.Header)) context.Context {
	return context.WithValue(ctx, answerKey{}, told)
}

func answered(ctx context.Context, h http.Header) {
	if told, ok := ctx.Value(answerKey{}).(func(http.Header)); ok {
		told(h)
	}
}
