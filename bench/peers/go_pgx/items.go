package main

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const (
	columns    = "id, name, price, in_stock, owner_id, version, created_at, updated_at"
	selectOne  = "SELECT " + columns + " FROM items WHERE id = $1"
	selectMany = "SELECT " + columns + " FROM items WHERE id = ANY($1)"
	insertOne  = "INSERT INTO items (name, price, in_stock) VALUES ($1, $2, $3) RETURNING " + columns
	insertMany = `INSERT INTO items (name, price, in_stock)
		SELECT name, price, in_stock FROM unnest($1::text[], $2::float8[], $3::boolean[])
		WITH ORDINALITY AS rows (name, price, in_stock, position) ORDER BY position RETURNING ` + columns
	updateOne = `UPDATE items SET name = $2, price = $3, in_stock = $4, version = version + 1, updated_at = now()
		WHERE id = $1 RETURNING ` + columns
)

// Pages by order: the first one, and the one after a row.
var (
	selectFirst = map[string]string{
		"id":    "SELECT " + columns + " FROM items ORDER BY id LIMIT $1",
		"price": "SELECT " + columns + " FROM items ORDER BY price, id LIMIT $1",
		"name":  "SELECT " + columns + " FROM items ORDER BY name, id LIMIT $1",
	}
	selectNext = map[string]string{
		"id":    "SELECT " + columns + " FROM items WHERE id > $2 ORDER BY id LIMIT $1",
		"price": "SELECT " + columns + " FROM items WHERE (price, id) > ($3, $2) ORDER BY price, id LIMIT $1",
		"name":  "SELECT " + columns + " FROM items WHERE (name, id) > ($3, $2) ORDER BY name, id LIMIT $1",
	}
)

// ErrNotFound is returned for an id that no item has.
var ErrNotFound = errors.New("item not found")

// Item is what a client receives.
type Item struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Price     float64   `json:"price"`
	InStock   bool      `json:"in_stock"`
	OwnerID   *int64    `json:"owner_id"`
	Version   int64     `json:"version"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Items reads and writes the table.
type Items struct {
	pool *pgxpool.Pool
}

// Read returns the item with an id, or ErrNotFound.
func (s *Items) Read(ctx context.Context, id int64) (Item, error) {
	return scan(s.pool.QueryRow(ctx, selectOne, id))
}

// Create adds an item.
func (s *Items) Create(ctx context.Context, item ItemCreate) (Item, error) {
	return scan(s.pool.QueryRow(ctx, insertOne, item.Name, *item.Price, item.stocked()))
}

// Update replaces an item, or returns ErrNotFound.
func (s *Items) Update(ctx context.Context, id int64, item ItemCreate) (Item, error) {
	return scan(s.pool.QueryRow(ctx, updateOne, id, item.Name, *item.Price, item.stocked()))
}

// Page returns a page of items.
func (s *Items) Page(ctx context.Context, page Page) ([]Item, error) {
	if page.AfterID == 0 {
		return s.collect(ctx, page.Limit, selectFirst[page.Order], page.Limit)
	}
	if page.Order == "id" {
		return s.collect(ctx, page.Limit, selectNext[page.Order], page.Limit, page.AfterID)
	}
	return s.collect(ctx, page.Limit, selectNext[page.Order], page.Limit, page.AfterID, page.After)
}

// ReadBatch returns the items with these ids, in their order; unknown ones are left out.
func (s *Items) ReadBatch(ctx context.Context, ids []int64) ([]Item, error) {
	found, err := s.collect(ctx, len(ids), selectMany, ids)
	if err != nil {
		return nil, err
	}
	byID := make(map[int64]Item, len(found))
	for _, item := range found {
		byID[item.ID] = item
	}
	items := make([]Item, 0, len(found))
	for _, id := range ids {
		if item, ok := byID[id]; ok {
			items = append(items, item)
		}
	}
	return items, nil
}

// CreateBatch adds items, all or none.
func (s *Items) CreateBatch(ctx context.Context, batch []ItemCreate) ([]Item, error) {
	names, prices, stocks := make([]string, len(batch)), make([]float64, len(batch)), make([]bool, len(batch))
	for place, item := range batch {
		names[place], prices[place], stocks[place] = item.Name, *item.Price, item.stocked()
	}
	items, err := s.collect(ctx, len(batch), insertMany, names, prices, stocks)
	sort.Slice(items, func(one, other int) bool { return items[one].ID < items[other].ID })
	return items, err
}

func (s *Items) collect(ctx context.Context, count int, statement string, arguments ...any) ([]Item, error) {
	rows, err := s.pool.Query(ctx, statement, arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	items := make([]Item, 0, count)
	for rows.Next() {
		item, err := scan(rows)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, rows.Err()
}

func scan(row pgx.Row) (Item, error) {
	var item Item
	err := row.Scan(
		&item.ID, &item.Name, &item.Price, &item.InStock, &item.OwnerID, &item.Version, &item.CreatedAt, &item.UpdatedAt,
	)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	item.CreatedAt, item.UpdatedAt = item.CreatedAt.UTC(), item.UpdatedAt.UTC()
	return item, err
}
