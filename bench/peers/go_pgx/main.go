// Go's net/http and pgx: one process on all cores, one statement for each request.
//
// Written as the guides of both write it: a pool with its defaults, if CONNECTIONS_PER_THREAD does not say how large it
// is, statements that pgx prepares and keeps on each connection, and encoding/json. It serves until it is told to stop, at the address that is its argument.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v4/pgxpool"
)

// Service answers requests with what the database holds.
type Service struct {
	items *Items
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	config, err := pgxpool.ParseConfig(strings.Replace(os.Getenv("DATABASE_URL"), "+asyncpg", "", 1))
	if err != nil {
		log.Fatal(err)
	}
	if each, err := strconv.Atoi(os.Getenv("CONNECTIONS_PER_THREAD")); err == nil {
		config.MaxConns = int32(each * runtime.GOMAXPROCS(0))
	}
	pool, err := pgxpool.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	service := &Service{&Items{pool}}
	mux := http.NewServeMux()
	mux.HandleFunc("/items", service.list)
	mux.HandleFunc("/items/", service.one)
	server := &http.Server{Addr: os.Args[1], Handler: mux}
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func (s *Service) list(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.readItems(w, r)
	case http.MethodPost:
		s.createItems(w, r)
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (s *Service) one(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseInt(strings.TrimPrefix(r.URL.Path, "/items/"), 10, 64)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	switch r.Method {
	case http.MethodGet:
		item, err := s.items.Read(r.Context(), id)
		respond(w, item, err, http.StatusOK)
	case http.MethodPut:
		s.updateItem(w, r, id)
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (s *Service) readItems(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	if query.Has("ids") {
		ids, err := integers(strings.Split(query.Get("ids"), ","))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		items, err := s.items.ReadBatch(r.Context(), ids)
		respond(w, items, err, http.StatusOK)
		return
	}
	page, err := parsePage(query)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	items, err := s.items.Page(r.Context(), page)
	respond(w, items, err, http.StatusOK)
}

func (s *Service) createItems(w http.ResponseWriter, r *http.Request) {
	var body ItemsCreate
	if !decode(w, r, &body) {
		return
	}
	if body.Several {
		items, err := s.items.CreateBatch(r.Context(), body.Items)
		respond(w, items, err, http.StatusCreated)
		return
	}
	item, err := s.items.Create(r.Context(), body.Items[0])
	respond(w, item, err, http.StatusCreated)
}

func (s *Service) updateItem(w http.ResponseWriter, r *http.Request, id int64) {
	var body ItemCreate
	if !decode(w, r, &body) {
		return
	}
	item, err := s.items.Update(r.Context(), id, body)
	respond(w, item, err, http.StatusOK)
}

func decode(w http.ResponseWriter, r *http.Request, into interface{ Validate() error }) bool {
	err := json.NewDecoder(r.Body).Decode(into)
	if err == nil {
		err = into.Validate()
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
	}
	return err == nil
}

func respond(w http.ResponseWriter, content any, err error, status int) {
	if errors.Is(err, ErrNotFound) {
		http.Error(w, "item not found", http.StatusNotFound)
		return
	}
	var body []byte
	if err == nil {
		body, err = json.Marshal(content)
	}
	if err != nil {
		log.Print(err)
		http.Error(w, "internal server error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
