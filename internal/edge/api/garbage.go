package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"weir/internal/guard/identity"
	"weir/internal/pipeline"
)

func (s *server) garbage(a huma.API) {
	route(a, "GET", "/garbage", "list-garbage", "Logs and artifacts that are past their time: what would be removed", func(ctx context.Context, _ *struct{}) (pipeline.Garbage, error) {
		return s.Pipeline.Collect(ctx, identity.From(ctx).Name, true)
	})
	route(a, "POST", "/garbage/remove", "remove-garbage", "Remove logs and artifacts that are past their time", func(ctx context.Context, _ *struct{}) (pipeline.Garbage, error) {
		return s.Pipeline.Collect(ctx, identity.From(ctx).Name, false)
	})
}
