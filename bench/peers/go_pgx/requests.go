package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strconv"
	"unicode/utf8"
)

const (
	nameLengthMax = 255
	limitDefault  = 100
	limitMax      = 1000
)

// ItemCreate is what a client sends.
type ItemCreate struct {
	Name    string   `json:"name"`
	Price   *float64 `json:"price"`
	InStock *bool    `json:"in_stock"`
}

// ItemsCreate is an item, or a batch of them.
type ItemsCreate struct {
	Items   []ItemCreate
	Several bool
}

// Page is the question for one page.
type Page struct {
	Limit   int
	Order   string
	AfterID int64
	After   any
}

// UnmarshalJSON takes an object or an array.
func (body *ItemsCreate) UnmarshalJSON(content []byte) error {
	if body.Several = bytes.HasPrefix(content, []byte("[")); body.Several {
		return json.Unmarshal(content, &body.Items)
	}
	body.Items = make([]ItemCreate, 1)
	return json.Unmarshal(content, &body.Items[0])
}

// Validate returns what is wrong with any of the items.
func (body *ItemsCreate) Validate() error {
	for _, item := range body.Items {
		if err := item.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Validate returns what is wrong with an item.
func (item *ItemCreate) Validate() error {
	if length := utf8.RuneCountInString(item.Name); length < 1 || length > nameLengthMax {
		return errors.New("name: 1 to 255 characters")
	}
	if item.Price == nil || *item.Price < 0 {
		return errors.New("price: a number, 0 or more")
	}
	return nil
}

func (item *ItemCreate) stocked() bool {
	return item.InStock == nil || *item.InStock
}

func parsePage(query url.Values) (page Page, err error) {
	page = Page{Limit: limitDefault, Order: "id"}
	if query.Has("order") {
		page.Order = query.Get("order")
	}
	if query.Has("limit") {
		if page.Limit, err = strconv.Atoi(query.Get("limit")); err != nil {
			return page, err
		}
	}
	if _, known := selectFirst[page.Order]; !known || page.Limit < 1 || page.Limit > limitMax {
		return page, errors.New("order: id, price or name; limit: 1 to 1000")
	}
	if query.Has("after_id") {
		if page.AfterID, err = strconv.ParseInt(query.Get("after_id"), 10, 64); err != nil {
			return page, err
		}
	}
	if page.Order == "price" && page.AfterID != 0 {
		page.After, err = strconv.ParseFloat(query.Get("after_price"), 64)
		return page, err
	}
	page.After = query.Get("after_name")
	return page, nil
}

func integers(texts []string) ([]int64, error) {
	numbers := make([]int64, len(texts))
	for place, text := range texts {
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, err
		}
		numbers[place] = number
	}
	return numbers, nil
}
